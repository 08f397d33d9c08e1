//! PURE: the scripts that run on hosts, for a POSIX shell. Every path and name in them was checked by [`HostLayout`].
//!
//! A short list of programs runs as root, through `as_root`: stat, ls, ss, useradd, install, tee, sha256sum, chmod,
//! sync, mv, ln, rm, mkdir, systemctl, journalctl, flock, kill, runuser. Where the node's user may write, files are
//! read and written as that user, through `as_user`, because root would follow links that the user has put there. No
//! secret is ever passed as an argument.

use shared::backup::{MANIFEST, SUM};
use shared::ids::{ClusterId, NodeId};
use shared::spec::{Privilege, Service};

use super::claims;
use super::service::process;
use super::shell::script;
use crate::hosts::evidence::{self, Evidence};
use crate::hosts::identity;
use crate::plan::layout::HostLayout;

/// The line before the node's cluster.yaml, which is the last part of an inspection's output.
pub const CONFIG_MARK: &str = "--- cluster.yaml";

/// Prints `key value` lines about the host and the node, then the node's cluster.yaml. `release` is the release that is
/// expected on the host.
pub fn inspect(layout: &HostLayout, release: Option<&str>) -> String {
    let body = format!(
        r#"{SAY}
room() {{ d=$1; while ! [ -d "$d" ]; do d=$(dirname "$d"); done; df -Pk "$d" | tail -n 1 | awk '{{ print int($4 / 1024) }}'; }}
say time "$(date +%s)"
say arch "$(uname -m)"
say libc "$(getconf GNU_LIBC_VERSION 2>/dev/null)"
[ -d /run/systemd/system ] && say systemd yes
{closed}why=$(as_root ls / 2>&1 >/dev/null) || say no_root "$(printf '%s' "$why" | head -n 1)"
[ -n "$(as_root ls -A $data 2>/dev/null | head -n 1)" ] && say data yes
{pid}
say state "$state"
[ -n "$pid" ] && say pid "$pid" && say exe "$(as_root ls -l /proc/$pid/exe 2>/dev/null | sed 's/.* -> //')"
say free_data "$(room $data)"
say free_install "$(room $install)"
cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | sed 's/^/tcp /'
[ -n "$pid" ] || as_root ss -Hltnp 2>/dev/null | sed 's/^/ss /'
{claims}
{installed}"#,
        claims = claims::script(layout),
        closed = closed(layout) + &users_own(layout),
        pid = process(layout),
        installed = installed(layout, release),
    );
    script(layout, &body)
}

/// Prints, in the same form, only what is installed.
pub fn probe(layout: &HostLayout, release: Option<&str>) -> String {
    script(layout, &format!("{SAY}\n{}", installed(layout, release)))
}

const SAY: &str = r#"say() { printf '%s %s\n' "$1" "$2"; }"#;

fn installed(layout: &HostLayout, release: Option<&str>) -> String {
    let hash = "sha256sum 2>/dev/null <";
    let program = release.map_or_else(String::new, |release| {
        format!("say program \"$({hash} $install/releases/{release}/esnode | cut -d ' ' -f 1)\"\n")
    });
    let unit = match layout.service {
        Service::Systemd => format!(
            "say unit \"$({hash} $unit | cut -d ' ' -f 1)\"\n\
             [ -e {wanted_by} ] {lingers}&& say enabled yes\n",
            wanted_by = layout.wanted_by(),
            lingers = if layout.is_user_unit() { format!("&& {LINGERS} ") } else { String::new() },
        ),
        Service::Process => String::new(),
    };
    let run = if layout.logs_to_file() { "&& [ -d $install/run ] " } else { "" };
    format!(
        r#"id -u "$user" >/dev/null 2>&1 && say user yes
owner=$(as_root stat -c '%U %a' $data 2>/dev/null)
say owner "$owner"
[ "$owner" = "$user 700" ] && [ -d $install/releases ] && [ -d $install/config ] {run}&& say dirs yes
for left in {LEFTOVERS}; do [ -e "$left" ] || [ -L "$left" ] && say leftover "$left"; done
say current "$(readlink $install/current | sed 's,.*/,,')"
{program}{unit}printf '%s\n' '{CONFIG_MARK}'
cat $config 2>/dev/null
exit 0"#
    )
}

/// Shell patterns for the temporary files that [`place`] and [`switch`] leave if the host fails while they run.
const LEFTOVERS: &str =
    "$install/*.escli-new $install/config/*.escli-new $install/releases/*/*.escli-new $unit.escli-new";

/// Prints the directories that a login user without root cannot write to, although the node needs them: the directory
/// itself, or its nearest existing parent. The data directory must also belong to that user, because only its owner can
/// change its mode.
fn closed(layout: &HostLayout) -> String {
    match layout.privilege {
        Privilege::Sudo => String::new(),
        Privilege::None => r#"for d in $install $install/releases $install/config $data; do
  while ! [ -d "$d" ]; do d=$(dirname "$d"); done
  [ -w "$d" ] && [ -x "$d" ] || say closed "$d"
done
[ ! -d $data ] || [ -O $data ] || [ "$(id -u)" = 0 ] || say closed $data
"#
        .to_owned(),
    }
}

/// Prints the state of the login user's own systemd.
fn users_own(layout: &HostLayout) -> String {
    if !layout.is_user_unit() {
        return String::new();
    }
    format!(
        "say login \"$user\"\n[ -S \"${{XDG_RUNTIME_DIR:-/run/user/$(id -u)}}/systemd/private\" ] && say manager yes\n\
         {LINGERS} && say lingers yes\n"
    )
}

/// A condition: the user's systemd starts at boot, and outlives the user's logins.
const LINGERS: &str = "[ -e /var/lib/systemd/linger/$user ]";

/// Deletes the files that a failed upload has left. Nothing is being uploaded meanwhile, since the caller holds the
/// lease.
pub fn remove_leftovers(layout: &HostLayout) -> String {
    script(layout, &format!("for left in {LEFTOVERS}; do as_root rm -f \"$left\"; done"))
}

/// Tries to connect to each `host:port`, and prints `open`, `silent`, `unresolved` or `unknown` for each, in this
/// order.
pub fn peer_reachability(peers: &[(String, u16)], seconds: u64) -> String {
    let mut text = String::from(
        "try() {\n  bash -c : 2>/dev/null || { echo unknown; return; }\n  \
         timeout \"$3\" bash -c \": < /dev/tcp/$1/$2\" 2>/dev/null\n  \
         if [ $? = 124 ]; then echo silent; else echo open; fi\n}\n",
    );
    for (host, port) in peers {
        // For a name that the host cannot resolve, prints that instead.
        text.push_str(&format!(
            "getent ahosts '{host}' >/dev/null && try '{host}' {port} {seconds} || echo unresolved\n"
        ));
    }
    text
}

/// Creates the user that owns the data.
pub fn ensure_user(layout: &HostLayout) -> String {
    script(
        layout,
        "id -u $user >/dev/null 2>&1 || as_root useradd --system --user-group --no-create-home \
         --home-dir $(dirname $data) --shell /usr/sbin/nologin $user",
    )
}

/// Creates the node's directories.
pub fn ensure_dirs(layout: &HostLayout) -> String {
    let run =
        if layout.logs_to_file() { "as_root install -d -m 755 -o $user -g $group $install/run" } else { "" };
    let body = format!(
        r#"set -e
group=$(id -gn $user)
as_root install -d -m 755 $install $install/releases $install/config
[ ! -L $data ] || {{ echo "$data is a symbolic link; set cluster.storage.data_dir to the directory itself" >&2; exit 1; }}
[ -d "$(dirname $data)" ] || as_root install -d -m 755 -o $user -g $group "$(dirname $data)"
as_root install -d -m 700 -o $user -g $group $data
{run}"#
    );
    script(layout, &body)
}

/// Writes standard input to `path`, atomically: to a temporary file, which is compared with `sha256`, synced, checked
/// by the command `tried`, and renamed. A failed copy is deleted, so that it takes up no space.
pub fn place(layout: &HostLayout, path: &str, mode: &str, sha256: &str, tried: &str) -> String {
    let folder = path.rsplit_once('/').map_or("/", |(folder, _)| folder);
    let body = format!(
        r#"set -e
new={path}.escli-new
trap 'as_root rm -f $new' EXIT
[ -d {folder} ] || as_root mkdir -p {folder}
as_root tee $new >/dev/null
found=$(as_root sha256sum $new | cut -d ' ' -f 1)
[ "$found" = {sha256} ] || {{ echo "the upload is damaged: its SHA-256 is $found" >&2; exit 1; }}
as_root chmod {mode} $new
{tried}
as_root sync $new
as_root mv -T $new {path}
trap - EXIT
as_root sync {folder}"#
    );
    script(layout, &body)
}

/// A command for [`place`]: checks that the program runs on this host.
pub const RUNS: &str =
    "out=$(as_root $new --version 2>&1) || { echo \"it does not run here: $out\" >&2; exit 1; }";

/// Makes the unit start at boot, which also makes systemd read it again.
pub fn enable(layout: &HostLayout) -> String {
    let linger = if layout.is_user_unit() {
        format!(
            "\n{LINGERS} || loginctl --no-ask-password enable-linger || {{ echo \"as root there:  loginctl enable-linger $user\" >&2\n\
             echo \"lingering is off for $user and could not be enabled: the node would stop with the last login\" >&2\n\
             exit 1; }}"
        )
    } else {
        String::new()
    };
    script(layout, &format!("set -e\nctl --quiet enable $name{linger}"))
}

/// Makes the unit no longer start at boot.
pub fn disable(layout: &HostLayout) -> String {
    script(layout, "ctl --quiet disable $name")
}

/// The line before the checksum of a backup.
pub const SUM_MARK: &str = "--- sum\n";

/// Prints the identity of the data directory, and the checksum of the backup in it; nothing if it does not exist.
pub fn identity(layout: &HostLayout) -> String {
    let body = format!(
        "cd /\nas_user tail -n +1 $data/{} 2>/dev/null || true\nprintf '%s' '{SUM_MARK}'\n\
         as_user tail -n +1 $data/{SUM} 2>/dev/null || true",
        identity::FILE
    );
    script(layout, &body)
}

/// Unpacks a backup from standard input into the empty data directory, after all of it was read. The log comes first,
/// because no node starts on a log without an identity.
pub fn unpack(layout: &HostLayout) -> String {
    let program = layout.program();
    let body = format!(
        r#"set -e
cd /
new=$data/escli-new
as_user rm -rf $new
as_user mkdir -m 700 $new
as_user tar -C $new --no-same-owner -xf -
as_user sh -c "cd $new && sha256sum --quiet -c {SUM}"
as_user {program} verify --data-dir $new >&2
as_user sync -f $new
as_user mv $new/log $new/checkpoints $new/{MANIFEST} $new/{SUM} $data/
as_user rm -rf $new
as_user sync -f $data"#
    );
    script(layout, &body)
}

/// Runs `esnode verify` on the data of a stopped node. A verdict that tells of damage is a success of the script.
pub fn verify(layout: &HostLayout) -> String {
    let program = layout.program();
    let body = format!(
        "cd /\nsaid=$(as_user {program} verify --json --data-dir $data) || [ -n \"$said\" ] || exit 1\n\
         printf '%s\\n' \"$said\""
    );
    script(layout, &body)
}

/// Runs `esnode recover` on the data of a stopped node, which makes its log that of another cluster.
pub fn recover(layout: &HostLayout, id: NodeId, cluster: ClusterId, members: &[NodeId]) -> String {
    let task = identity::recover(cluster, members).join(" ");
    let program = layout.program();
    script(layout, &format!("cd /\nas_user {program} --node-id={id} --config=$config {task}"))
}

/// Makes `release` the current one, and keeps the previous one beside it.
pub fn switch(layout: &HostLayout, release: &str) -> String {
    let body = format!(
        r#"set -e
before=$(readlink $install/current | sed 's,.*/,,') || true
link() {{ as_root ln -sfn "$1" "$2.escli-new"; as_root mv -T "$2.escli-new" "$2"; }}
link releases/{release} $install/current
link current/esnode $install/esnode
link current/esnode $install/event_stream_core
as_root sync $install
[ "$before" != {release} ] || exit 0
for old in $(ls $install/releases); do
  case $old in {release} | "$before") ;; *) as_root rm -rf "$install/releases/$old" ;; esac
done"#
    );
    script(layout, &body)
}

/// Deletes the node's data and configuration, and makes its unit no longer start at boot.
pub fn wipe(layout: &HostLayout) -> String {
    let unit = match layout.service {
        Service::Systemd => {
            "ctl --quiet disable $name 2>/dev/null || true\nas_root rm -f $unit\nctl daemon-reload\n"
        }
        Service::Process => "",
    };
    let run = if layout.logs_to_file() { "as_root rm -rf $install/run" } else { "" };
    script(
        layout,
        &format!("set -e\n{unit}{run}\nas_root rm -rf $data $config\nas_root sync $install/config"),
    )
}

/// Prints the last lines of the node's log.
pub fn log_tail(layout: &HostLayout, lines: usize) -> String {
    let body = if layout.logs_to_file() {
        // The node starts a new log file when the current one is large, so the previous one is read too.
        format!(
            "cd /; as_user tail -q -n {lines} $install/run/log.1 $install/run/log 2>/dev/null | tail -n {lines}"
        )
    } else {
        format!("as_root journalctl -q -u $name -n {lines} -o cat --no-pager")
    };
    script(layout, &format!("{body}\nexit 0"))
}

/// Prints the node's cluster.yaml; nothing if there is none.
pub fn read_config(layout: &HostLayout) -> String {
    script(layout, "[ -e $config ] || exit 0\ncat $config")
}

/// Prints the last lines of the node's log, then every new one.
pub fn log_follow(layout: &HostLayout, lines: usize) -> String {
    let body = if layout.logs_to_file() {
        format!("cd /; as_user tail -n {lines} -F $install/run/log 2>/dev/null")
    } else {
        format!("as_root journalctl -q -u $name -n {lines} -f -o cat --no-pager")
    };
    script(layout, &body)
}

/// Prints one kind of information about the host and the node.
pub fn evidence(layout: &HostLayout, what: Evidence) -> String {
    let body = match (what, layout.service) {
        (Evidence::Version, _) => "exec $install/esnode --version --json".to_owned(),
        (Evidence::Service, Service::Systemd) => "ctl status --no-pager -l -n 0 $name\n\
             printf '\\n'; ctl show $name\nprintf '\\n'; cat $unit\nexit 0"
            .to_owned(),
        (Evidence::Service, Service::Process) => format!(
            "{}\n[ -n \"$pid\" ] || {{ echo 'the node is not running'; exit 0; }}\n{}",
            process(layout),
            evidence::PROCESS
        ),
        (Evidence::Machine, _) => evidence::machine("$install", "$data", "as_root"),
        (Evidence::Operations, _) => "tail -n 500 $install/operations.jsonl".to_owned(),
    };
    script(layout, &body)
}

/// Appends one line from standard input to the history of operations that the host keeps.
pub fn note(layout: &HostLayout) -> String {
    script(layout, "[ ! -d $install ] || as_root tee -a $install/operations.jsonl >/dev/null")
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::plan::tests::remote_spec;

    /// Runs a script of a host whose directories are all below `temp`, with nobody else's rights.
    fn run(
        temp: &std::path::Path,
        text: impl Fn(&HostLayout) -> String,
        input: &str,
    ) -> (bool, String, String) {
        let path = |name: &str| temp.join(name).display().to_string();
        let layout = HostLayout {
            install: path("opt"),
            data: path("data/raft"),
            user: None,
            privilege: Privilege::None,
            service: Service::Process,
        };
        let file = temp.join("input");
        std::fs::write(&file, input).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", &text(&layout)]).stdin(Stdio::from(std::fs::File::open(file).unwrap()));
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    }

    fn inspected(temp: &std::path::Path) -> crate::plan::facts::HostFacts {
        let (ok, said, wrong) = run(temp, |layout| inspect(layout, Some("r1")), "");
        assert!(ok && wrong.is_empty(), "{said}{wrong}");
        super::super::inventory::facts(&said, &remote_spec(3).cluster.nodes[1], 0)
    }

    #[test]
    fn directories_files_and_releases_are_seen_once_they_are_there() {
        let temp = tempfile::tempdir().unwrap();
        let at = temp.path();
        let bare = inspected(at);
        let machine = bare.machine.unwrap();
        assert!(!bare.dirs && bare.data_empty && machine.user && bare.current.is_none());
        assert!(!machine.arch.is_empty() && machine.free_data_mib > 0 && machine.program.is_none());

        assert!(run(at, ensure_dirs, "").0);
        let text = remote_spec(3).for_node(2).unwrap().to_yaml();
        let hash = crate::files::sha256::hex(text.as_bytes());
        let (ok, _, wrong) = run(at, |layout| place(layout, &layout.config(), "644", &hash, ""), &text);
        assert!(ok, "{wrong}");
        let script = "#!/bin/sh\necho esnode 9\n";
        let hash = crate::files::sha256::hex(script.as_bytes());
        let (ok, _, wrong) =
            run(at, |layout| place(layout, &layout.released("r1"), "755", &hash, RUNS), script);
        assert!(ok, "{wrong}");
        assert!(run(at, |layout| switch(layout, "r1"), "").0);
        let facts = inspected(at);
        let machine = facts.machine.unwrap();
        assert!(facts.dirs && facts.config_hash == Some(remote_spec(3).config_hash()));
        assert_eq!((facts.current.as_deref(), machine.program), (Some("r1"), Some(hash)));
        let out = Command::new(at.join("opt/event_stream_core")).output().unwrap();
        assert_eq!(out.stdout, b"esnode 9\n");
    }

    #[test]
    fn what_arrives_damaged_or_does_not_run_leaves_nothing() {
        let temp = tempfile::tempdir().unwrap();
        assert!(run(temp.path(), ensure_dirs, "").0);
        let place = |hash: String| {
            run(
                temp.path(),
                move |layout| place(layout, &layout.released("r1"), "755", &hash, RUNS),
                "#!/bin/false\n",
            )
        };
        let (ok, _, wrong) = place(crate::files::sha256::hex(b"something else"));
        assert!(!ok && wrong.contains("the upload is damaged"), "{wrong}");
        let (ok, _, wrong) = place(crate::files::sha256::hex(b"#!/bin/false\n"));
        assert!(!ok && wrong.contains("it does not run here"), "{wrong}");
        let left = std::fs::read_dir(temp.path().join("opt/releases/r1")).unwrap().count();
        assert_eq!(left, 0);
    }

    #[test]
    fn the_release_before_stays_and_older_ones_go() {
        let temp = tempfile::tempdir().unwrap();
        assert!(run(temp.path(), ensure_dirs, "").0);
        for release in ["r1", "r2", "r3"] {
            std::fs::create_dir(temp.path().join("opt/releases").join(release)).unwrap();
            assert!(run(temp.path(), |layout| switch(layout, release), "").0);
        }
        assert!(run(temp.path(), |layout| switch(layout, "r3"), "").0, "again");
        let mut left: Vec<_> = std::fs::read_dir(temp.path().join("opt/releases")).unwrap().collect();
        left.sort_by_key(|entry| entry.as_ref().unwrap().file_name());
        let names: Vec<_> = left.iter().map(|entry| entry.as_ref().unwrap().file_name()).collect();
        assert_eq!(names, ["r2", "r3"]);
    }

    #[test]
    fn what_a_broken_upload_left_is_seen_and_deleted_and_nothing_else() {
        let temp = tempfile::tempdir().unwrap();
        let at = temp.path();
        let left = |at| inspected(at).machine.unwrap().leftovers;
        assert!(run(at, ensure_dirs, "").0);
        assert!(run(at, |layout| switch(layout, "r1"), "").0 && left(at).is_empty());
        std::fs::create_dir(at.join("opt/releases/r1")).unwrap();
        std::fs::write(at.join("opt/releases/r1/esnode"), "kept").unwrap();
        std::fs::write(at.join("opt/releases/r1/esnode.escli-new"), "half").unwrap();
        std::fs::write(at.join("opt/config/cluster.yaml.escli-new"), "half").unwrap();
        std::os::unix::fs::symlink("releases/r1", at.join("opt/current.escli-new")).unwrap();
        assert_eq!(left(at).len(), 3, "{:?}", left(at));
        let (ok, _, wrong) = run(at, remove_leftovers, "");
        assert!(ok && left(at).is_empty(), "{wrong}{:?}", left(at));
        assert!(at.join("opt/releases/r1/esnode").exists() && at.join("opt/current").is_symlink());
    }

    #[test]
    fn a_directory_that_is_open_to_others_is_seen_and_closed() {
        let temp = tempfile::tempdir().unwrap();
        let at = temp.path();
        assert!(run(at, ensure_dirs, "").0);
        let data = at.join("data/raft");
        std::fs::set_permissions(&data, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let seen = inspected(at);
        let owner = seen.machine.unwrap().owner.unwrap();
        assert!(!seen.dirs && owner.ends_with(" 755"), "{owner}");
        assert!(run(at, ensure_dirs, "").0 && inspected(at).dirs);
    }

    #[test]
    fn a_port_nobody_answers_on_is_told_from_one_nobody_listens_on() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let open = listener.local_addr().unwrap().port();
        let peers = [
            ("127.0.0.1".to_owned(), open),
            ("127.0.0.1".to_owned(), 1),
            ("no.such.name.invalid".to_owned(), 1),
        ];
        let output = Command::new("sh").args(["-c", &peer_reachability(&peers, 1)]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "open\nopen\nunresolved\n");
    }

    #[test]
    fn root_follows_no_link_that_the_nodes_user_has_made() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("only root can become somebody else: nothing was shown");
            return;
        }
        let temp = tempfile::tempdir().unwrap();
        let at = temp.path();
        let open = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(at, open(0o755)).unwrap();
        let layout = HostLayout {
            install: at.join("opt").display().to_string(),
            data: at.join("data").display().to_string(),
            user: Some("nobody".to_owned()),
            privilege: Privilege::Sudo,
            service: Service::Process,
        };
        let say = |script: String| {
            let output = Command::new("sh").args(["-c", &script]).output().unwrap();
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
        };
        say(ensure_dirs(&layout));
        let secret = at.join("secret");
        std::fs::write(&secret, "for root alone\n").unwrap();
        std::fs::set_permissions(&secret, open(0o600)).unwrap();
        for (link, script) in [("opt/run/log", log_tail(&layout, 5)), ("data/identity", identity(&layout))] {
            std::fs::write(at.join(link), "its own\n").unwrap();
            assert!(say(script.clone()).contains("its own"), "{link}");
            std::fs::remove_file(at.join(link)).unwrap();
            std::os::unix::fs::symlink(&secret, at.join(link)).unwrap();
            assert!(!say(script).contains("for root alone"), "{link}");
        }
        std::fs::remove_dir_all(at.join("data")).unwrap();
        std::os::unix::fs::symlink(at, at.join("data")).unwrap();
        assert!(say(ensure_dirs(&layout)).contains("is a symbolic link"));
        let mode = std::fs::metadata(at).unwrap().permissions();
        assert_eq!(
            std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777,
            0o755,
            "where it leads is as it was"
        );
    }
}
