//! PURE: what every script on a host begins with: how to become root or the node's user, and where things are.

use shared::spec::Privilege;

use crate::plan::layout::{HostLayout, UNIT};

/// How commands run as root, and as the node's user.
fn prelude(layout: &HostLayout) -> String {
    let user = layout.user.as_deref().unwrap_or("$(id -un)");
    let (root, own) = match layout.privilege {
        Privilege::None => (r#""$@""#, r#""$@""#),
        Privilege::Sudo => (
            r#"if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi"#,
            r#"as_root runuser -u "$user" -- "$@""#,
        ),
    };
    // A login that is no session of logind's does not say where the user's systemd listens.
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

/// A script with what all of them know: how to become whom, and what is where.
pub(super) fn script(layout: &HostLayout, body: &str) -> String {
    let HostLayout { install, data, .. } = layout;
    let (config, unit) = (layout.config(), layout.unit());
    format!(
        "{}install={install}\ndata={data}\nconfig={config}\nunit={unit}\nname={UNIT}\n{body}\n",
        prelude(layout)
    )
}
