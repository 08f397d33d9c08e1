//! PURE: finds out from a host which node of which cluster was deployed on it last.

use crate::hosts::identity;
use crate::plan::claims::{Claims, Deployed};
use crate::plan::layout::HostLayout;
use shared::spec::Service;

/// The part of the inspection script that prints it. The unit's own configuration file is what was deployed last, even
/// if cluster.yaml now names another path. If that file names another data directory, old data may be there.
pub fn script(layout: &HostLayout) -> String {
    let unit = match layout.service {
        Service::Systemd => "was=$(sed -n 's/^ExecStart=.* --config=//p' $unit 2>/dev/null | tail -n 1)\n",
        Service::Process => "was=\n",
    };
    format!(
        r#"{unit}[ -e "$was" ] || was=$config
say data_dir $data
say identity "$(as_root tail -n +1 $data/{IDENTITY} 2>/dev/null | head -n 1)"
say deployed "$was"
sed 's/^/deployed| /' "$was" 2>/dev/null
old=$(sed -n 's/^ *data_dir: *//p' "$was" 2>/dev/null | head -n 1 | tr -d "\"'")
place() {{ as_root stat -L -c '%d %i' "$1" 2>/dev/null; }}
case $old in /*)
  [ -n "$(as_root ls -A "$old" 2>/dev/null | head -n 1)" ] && [ "$(place "$old")" != "$(place $data)" ] && say elsewhere "$old"
esac"#,
        IDENTITY = identity::FILE
    )
}

/// Parses the output of [`script`], which may be among other lines.
pub fn read(said: &str) -> Claims {
    let one = |key: &str| {
        let mut values = said.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        values.next().map(str::trim).filter(|value| !value.is_empty())
    };
    let text = said.lines().filter_map(|line| line.strip_prefix("deployed| "));
    let text = text.collect::<Vec<_>>().join("\n");
    let file = one("deployed").and_then(|path| identity::deployed(path, &text));
    let elsewhere = one("elsewhere").map(str::to_owned);
    Claims {
        place: None,
        data: one("data_dir").unwrap_or_default().to_owned(),
        file: file.map(|(file, _)| Deployed { elsewhere, ..file }),
        store: one("identity").and_then(identity::store),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::process::Command;

    use shared::spec::Privilege;

    use super::*;
    use crate::plan::claims::Store;
    use crate::plan::tests::remote_spec;

    /// What a host says whose directories are all below `temp`.
    fn ask(temp: &Path, data: &str, service: Service) -> Claims {
        let path = |name: &str| temp.join(name).display().to_string();
        let layout = HostLayout {
            install: path("opt"),
            data: path(data),
            user: None,
            privilege: Privilege::None,
            service,
        };
        let text =
            super::super::scripts::inspect(&layout, None).replace("$HOME", &temp.display().to_string());
        let output = Command::new("sh").args(["-c", &text]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && output.stderr.is_empty(), "{said}{output:?}");
        read(&said)
    }

    /// Deploys node 2, and returns where its file is.
    fn deployed(temp: &Path, install: &str, data: &str) -> String {
        let mut file = remote_spec(3).for_node(2).unwrap();
        file.cluster.storage.data_dir = temp.join(data);
        let path = temp.join(install).join("config/cluster.yaml");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, file.to_yaml()).unwrap();
        fs::create_dir_all(temp.join(data)).unwrap();
        fs::write(temp.join(data).join("identity"), "{\"node_id\":2,\"cluster_id\":null}\ncrc32c=0\n")
            .unwrap();
        path.display().to_string()
    }

    #[test]
    fn a_bare_host_claims_nothing() {
        let temp = tempfile::tempdir().unwrap();
        let claims = ask(temp.path(), "data", Service::Process);
        assert_eq!((claims.file, claims.store), (None, None));
        assert_eq!(claims.data, temp.path().join("data").display().to_string());
    }

    #[test]
    fn a_host_says_whose_node_it_is_and_where_its_data_is() {
        let temp = tempfile::tempdir().unwrap();
        let path = deployed(temp.path(), "opt", "data");
        let file = Deployed { path, cluster: Some("prod".to_owned()), node: Some(2), elsewhere: None };
        let claims = ask(temp.path(), "data", Service::Process);
        assert_eq!((claims.file, claims.store), (Some(file.clone()), Some(Store { node: 2, cluster: None })));

        let old = Some(temp.path().join("data").display().to_string());
        let moved = ask(temp.path(), "other", Service::Process);
        assert_eq!((moved.file.unwrap().elsewhere, moved.store), (old, None));
        std::os::unix::fs::symlink(temp.path().join("data"), temp.path().join("link")).unwrap();
        let linked = ask(temp.path(), "link", Service::Process);
        assert_eq!(linked.file.unwrap().elsewhere, None, "another name for the same place");
        fs::remove_file(temp.path().join("data/identity")).unwrap();
        let gone = ask(temp.path(), "other", Service::Process);
        assert_eq!(gone.file.unwrap(), file, "an empty directory holds no data");
    }

    #[test]
    fn what_the_unit_starts_was_deployed_last() {
        let temp = tempfile::tempdir().unwrap();
        let path = deployed(temp.path(), "srv", "data");
        assert_eq!(ask(temp.path(), "new", Service::Systemd).file, None);
        let units = temp.path().join(".config/systemd/user");
        fs::create_dir_all(&units).unwrap();
        let start =
            format!("[Service]\nExecStart=/srv/esnode --node-id=2 --config={path}\nRestart=on-failure\n");
        fs::write(units.join("eventstream.service"), start).unwrap();
        let file = ask(temp.path(), "new", Service::Systemd).file.unwrap();
        assert_eq!((file.path, file.node), (path, Some(2)));
        assert!(file.elsewhere.is_some_and(|old| old.ends_with("/data")));
    }
}
