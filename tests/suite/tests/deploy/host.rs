//! The systemd unit.

use super::{defaults, read};

const UNIT: &str = "deploy/systemd/fieldseal.service";
/// Files that are open beside the connections.
const OTHER_FILES: u64 = 128;
/// The most that one secret takes in a key page, in bytes.
const SLOT_BYTES: u64 = 64;

/// The values of a setting, in the order in which they stand.
fn values(setting: &str) -> Vec<String> {
    let text = read(UNIT);
    let start = format!("{setting}=");
    text.lines().filter_map(|line| line.strip_prefix(&start)).map(str::to_owned).collect()
}

#[track_caller]
fn only(setting: &str) -> String {
    let mut found = values(setting);
    assert_eq!(found.len(), 1, "{setting}: {found:?}");
    found.remove(0)
}

#[test]
fn the_unit_writes_where_the_state_is_and_nowhere_else() {
    let start = only("ExecStart");
    let (_, config) = start.split_once(" serve --config ").unwrap();
    let file = std::path::Path::new(config);
    let config = fieldseal_server::Config::parse(file, "format = 1").unwrap();
    assert_eq!(std::path::Path::new(&only("ReadWritePaths")), config.state.directory);
    assert_eq!(only("ProtectSystem"), "strict");
    for path in only("RequiresMountsFor").split(' ') {
        assert!(read(UNIT).contains(&format!("#   {path}/")), "{path} is not explained");
    }
    assert_eq!(only("UMask"), "0077");
    assert_ne!(only("User"), "root");
    assert_eq!(values("CapabilityBoundingSet"), [""]);
}

#[test]
fn the_unit_leaves_enough_time_files_and_locked_pages() {
    let defaults = defaults();
    let seconds = only("TimeoutStopSec");
    let seconds: u64 = seconds.strip_suffix('s').unwrap().parse().unwrap();
    assert!(seconds > defaults.listener.drain.as_secs());
    let files: u64 = only("LimitNOFILE").parse().unwrap();
    assert!(files >= defaults.listener.connections as u64 + OTHER_FILES);
    let locked = only("LimitMEMLOCK");
    let locked: u64 = locked.strip_suffix('M').unwrap().parse().unwrap();
    let keys = defaults.cached_data_keys as u64 * SLOT_BYTES;
    // Twice: calls hold keys of their own.
    assert!(locked * 1024 * 1024 >= 2 * keys);
    assert_eq!(only("LimitCORE"), "0");
}

#[test]
fn the_unit_tries_again_where_that_helps_and_never_hot() {
    assert_eq!(only("Restart"), "on-failure");
    let pause: u64 = only("RestartSec").strip_suffix('s').unwrap().parse().unwrap();
    assert!(pause >= 1);
    // 2 settings, 3 no installation, 9 corrupt. A full disk (8) gets space again.
    assert_eq!(only("RestartPreventExitStatus"), "2 3 9");
    // The usual limit would give a full disk up after five tries.
    assert_eq!(only("StartLimitIntervalSec"), "0");
    assert!(only("ExecReload").ends_with("kill -HUP $MAINPID"));
}
