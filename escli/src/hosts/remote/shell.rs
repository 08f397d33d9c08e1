//! PURE: how every script for a host begins: shell functions that run a command as root or as the node's user, and
//! variables for the paths.

use shared::spec::Privilege;

use crate::plan::layout::{HostLayout, UNIT};

/// Defines the shell functions `as_root`, `as_user` and `ctl` (systemctl), and the variable `user`.
fn prelude(layout: &HostLayout) -> String {
    let user = layout.user.as_deref().unwrap_or("$(id -un)");
    let (root, own) = match layout.privilege {
        Privilege::None => (r#""$@""#, r#""$@""#),
        Privilege::Sudo => (
            r#"if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi"#,
            r#"as_root runuser -u "$user" -- "$@""#,
        ),
    };
    // A login over SSH need not be a logind session. It then has no XDG_RUNTIME_DIR, without which `systemctl --user`
    // does not find the user's systemd.
    let systemctl = if layout.is_user_unit() {
        r#"export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-/run/user/$(id -u)}"; systemctl --user "$@""#
    } else {
        r#"as_root systemctl "$@""#
    };
    format!(
        "export LC_ALL=C; umask 022\nuser={user}\nas_root() {{ {root}; }}\nas_user() {{ {own}; }}\n\
         ctl() {{ {systemctl}; }}\n"
    )
}

/// Returns the script `body` with its prelude: the functions of [`prelude`], and the variables `install`, `data`,
/// `config`, `unit` and `name`.
pub(super) fn script(layout: &HostLayout, body: &str) -> String {
    let HostLayout { install, data, .. } = layout;
    let (config, unit) = (layout.config(), layout.unit());
    format!(
        "{}install={install}\ndata={data}\nconfig={config}\nunit={unit}\nname={UNIT}\n{body}\n",
        prelude(layout)
    )
}
