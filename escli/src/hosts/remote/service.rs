//! PURE: scripts that find, start and stop the node's process on its host.

use shared::ids::NodeId;
use shared::spec::Service;

use super::shell::script;
use crate::plan::facts::Process;
use crate::plan::layout::HostLayout;

/// Sets the shell variable `pid` to the node's process id, or to nothing, and `state` to a word that [`standing`]
/// understands.
///
/// Service manager and pid file are not enough: the first knows nothing of a node that was started by hand, the second
/// outlives its process, and process ids are reused. So the node is searched for by its arguments, among the processes
/// of this machine without those of its containers. A unit between two starts has no process, but is not stopped.
pub fn process(layout: &HostLayout) -> String {
    let find = format!(
        r#"for found in $(grep -lszx -- '[-]-config={}' /proc/[0-9]*/cmdline); do
  found=${{found#/proc/}}; found=${{found%/cmdline}}
  case $(awk '/^NSpid:/ {{ print NF }}' /proc/$found/status 2>/dev/null) in '' | 2) pid=$found; break ;; esac
done"#,
        layout.config()
    );
    let Service::Systemd = layout.service else {
        return format!("pid= state=stopped\n{find}\n[ -z \"$pid\" ] || state=running");
    };
    let manager = if layout.is_user_unit() {
        "[ -S \"${XDG_RUNTIME_DIR:-/run/user/$(id -u)}/systemd/private\" ]"
    } else {
        "[ -d /run/systemd/system ]"
    };
    format!(
        r#"state=unknown; said=$(ctl show -p ActiveState -p MainPID $name 2>/dev/null)
case $said in
  *ActiveState=inactive* | *ActiveState=failed*) state=stopped ;;
  *ActiveState=*) state=restarting ;;
  *) {manager} || state=stopped ;;
esac
pid=${{said##*MainPID=}}; pid=${{pid%%[!0-9]*}}; [ "$pid" != 0 ] || pid=
[ -n "$pid" ] || {{ {find}; }}
[ -z "$pid" ] || state=running"#
    )
}

/// Prints the node's state and process id.
pub fn stands(layout: &HostLayout) -> String {
    script(layout, &format!("{}\nprintf '%s %s\\n' \"$state\" \"$pid\"", process(layout)))
}

/// Parses the output of [`stands`].
pub fn standing(said: &str) -> Process {
    let (state, pid) = said.trim().split_once(' ').unwrap_or((said.trim(), ""));
    match (pid.parse(), state) {
        (Ok(pid), _) => Process::Running { pid },
        (_, "stopped") => Process::Stopped,
        (_, "restarting") => Process::Restarting,
        _ => Process::Unknown,
    }
}

/// Starts the node and prints its process id.
pub fn start(layout: &HostLayout, id: NodeId) -> String {
    let body = match layout.service {
        Service::Systemd => "set -e\nctl start $name\nctl show -p MainPID --value $name".to_owned(),
        // The shell that waits for the node must not keep the files of the SSH connection open.
        Service::Process => format!(
            r#"set -e
cd $data 2>/dev/null || cd /
as_user rm -f {run}/pid 2>/dev/null || true
( exec < /dev/null > /dev/null 2>&1
  as_user setsid sh -c 'umask 077; echo $$ > {run}/pid; exec {program} --node-id={id} --config={config} >> {run}/log 2>&1' ) &
for turn in 1 2 3 4 5 6 7 8 9 10; do [ -s {run}/pid ] && break; sleep 0.05; done
as_user cat {run}/pid"#,
            run = format_args!("{}/run", layout.install),
            program = layout.program(),
            config = layout.config(),
        ),
    };
    script(layout, &body)
}

/// Asks the node to end, or kills it with `kill`. A service manager that would start it again no longer does so. With
/// systemd, the script ends when the unit has stopped.
pub fn stop(layout: &HostLayout, kill: bool) -> String {
    let signal = if kill { "KILL" } else { "TERM" };
    let unit = match (layout.service, kill) {
        (Service::Systemd, false) => "ctl stop $name",
        (Service::Systemd, true) => "ctl kill -s KILL $name 2>/dev/null; ctl stop $name",
        (Service::Process, _) => "true",
    };
    let whose = if layout.service == Service::Systemd { "as_root" } else { "as_user" };
    let body = format!(
        "{unit}; code=$?\n{}\n[ -z \"$pid\" ] || {whose} kill -s {signal} $pid || code=$?\nexit $code",
        process(layout)
    );
    script(layout, &body)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::process::{Command, Stdio};

    use shared::spec::Privilege;

    use super::*;

    /// A host below `temp` whose `systemctl` says `unit` when asked how a unit stands, and notes what it is told to do.
    fn host(temp: &Path, service: Service, unit: &str) -> HostLayout {
        let script = format!(
            "#!/bin/sh\n[ \"$1\" = --user ] && shift\necho \"$@\" >> {}/told\n\
             [ \"$1\" != show ] || {{ {unit}; }}\n",
            temp.display()
        );
        std::fs::write(temp.join("systemctl"), script).unwrap();
        std::fs::set_permissions(temp.join("systemctl"), PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::create_dir_all(temp.join("run/systemd")).unwrap();
        let path = |name: &str| temp.join(name).display().to_string();
        HostLayout {
            install: path("opt"),
            data: path("data"),
            user: None,
            privilege: Privilege::None,
            service,
        }
    }

    fn run(temp: &Path, script: &str) -> String {
        let path = format!("{}:{}", temp.display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("sh");
        command.args(["-c", script]).env("PATH", path).env("XDG_RUNTIME_DIR", temp.join("run"));
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    }

    fn stand(temp: &Path, layout: &HostLayout) -> Process {
        standing(&run(temp, &stands(layout)))
    }

    #[test]
    fn a_unit_between_two_starts_is_not_stopped() {
        let temp = tempfile::tempdir().unwrap();
        let manager = std::os::unix::net::UnixListener::bind({
            std::fs::create_dir_all(temp.path().join("run/systemd")).unwrap();
            temp.path().join("run/systemd/private")
        });
        for (said, expected) in [
            ("echo MainPID=0; echo ActiveState=inactive", Process::Stopped),
            ("echo MainPID=0; echo ActiveState=failed", Process::Stopped),
            ("echo MainPID=0; echo ActiveState=activating", Process::Restarting),
            ("echo ActiveState=activating; echo MainPID=0", Process::Restarting),
            ("echo MainPID=0; echo ActiveState=deactivating", Process::Restarting),
            ("echo MainPID=77; echo ActiveState=active", Process::Running { pid: 77 }),
            ("echo 'Failed to connect to bus' >&2; exit 1", Process::Unknown),
        ] {
            let layout = host(temp.path(), Service::Systemd, said);
            assert_eq!(stand(temp.path(), &layout), expected, "{said}");
        }
        drop(manager);
        std::fs::remove_file(temp.path().join("run/systemd/private")).unwrap();
        let layout = host(temp.path(), Service::Systemd, "exit 1");
        assert_eq!(stand(temp.path(), &layout), Process::Stopped, "no manager starts anything");
    }

    #[test]
    fn what_runs_outside_of_its_unit_or_without_its_pid_file_is_found_and_stopped() {
        for service in [Service::Systemd, Service::Process] {
            let temp = tempfile::tempdir().unwrap();
            let layout = host(temp.path(), service, "echo MainPID=0; echo ActiveState=inactive");
            let config = layout.config();
            let start = |config: &str| {
                let arguments =
                    ["-c", "read never; true", "esnode", "--node-id=2", &format!("--config={config}")];
                Command::new("sh").args(arguments).stdin(Stdio::piped()).spawn().unwrap()
            };
            let mut another = start(&format!("{config}.other"));
            std::fs::create_dir_all(temp.path().join("opt/run")).unwrap();
            std::fs::write(temp.path().join("opt/run/pid"), format!("{} /etc/passwd *\n", another.id()))
                .unwrap();
            assert_eq!(stand(temp.path(), &layout), Process::Stopped, "another one's process");
            let mut node = start(&config);
            let found = (0..100).find_map(|_| match stand(temp.path(), &layout) {
                Process::Running { pid } => Some(pid),
                _ => None,
            });
            assert_eq!(found, Some(node.id()));
            run(temp.path(), &stop(&layout, false));
            node.wait().unwrap();
            assert_eq!(stand(temp.path(), &layout), Process::Stopped);
            assert!(another.try_wait().unwrap().is_none());
            another.kill().unwrap();
            another.wait().unwrap();
            let told = std::fs::read_to_string(temp.path().join("told")).unwrap_or_default();
            assert_eq!(told.contains("stop eventstream"), service == Service::Systemd, "{told}");
        }
    }
}
