//! What was shredded after a backup stays shredded when it is put back.

use super::{Backed, reason};
use crate::installation::place;
use crate::process::text;

#[test]
fn a_restore_brings_back_nothing_that_was_shredded_later() {
    let mut backed = Backed::new();
    let kept = backed.seal("kept", "kept");
    let gone = backed.seal("gone", "gone");
    let taken_back = backed.seal("back", "back");
    let backup = backed.back_up();
    let shred = ["key", "shred", "customer-pii", "--confirm", "customer-pii", "--partition"];
    for partition in ["gone", "back"] {
        backed.at.ok("ops", &[&shred[..], &[partition]].concat(), b"");
    }
    backed.at.ok("ops", &["key", "unshred", "customer-pii", "--partition", "back"], b"");
    let refused = Err("PARTITION_SHREDDED".to_owned());
    assert_eq!(backed.open("gone", &gone), refused);
    backed.lose();
    let name = backup.to_str().unwrap();
    // The backup itself has it still, and without the log it is back: that is what is said.
    let restored = ["--without-log", "second", "--public-key", "lost/audit/log.pub"];
    let restored = backed.restored(name, &[&restored[..], &["--into", "forced"]].concat());
    assert_eq!(restored["applied"], 0);
    let restored = backed.restored(name, &["--log", "lost/audit"]);
    assert_eq!((&restored["applied"], &restored["lost_data_keys"]), (&3.into(), &0.into()));
    backed.at.serve();
    assert_eq!(backed.open("gone", &gone), refused);
    assert_eq!(backed.open("kept", &kept).as_deref(), Ok("kept"));
    assert_eq!(backed.open("back", &taken_back).as_deref(), Ok("back"));
    let new = backed.at.run("app", &place("encrypt", &["--partition", "gone"]), b"x");
    assert!(text(&new.stderr).contains("PARTITION_SHREDDED"), "{}", text(&new.stderr));
    // Its window goes on, so it can still be taken back.
    backed.at.ok("ops", &["key", "unshred", "customer-pii", "--partition", "gone"], b"");
    assert_eq!(backed.open("gone", &gone).as_deref(), Ok("gone"));
    // A restore needs one of the two words about the log.
    assert_eq!(backed.at.stop(), 0);
    let both = backed.restore(name, &["--into", "x", "--log", "lost/audit", "--without-log", "y"]);
    assert_eq!(both.status.code(), Some(2));
    let again = backed.restore(name, &["--log", "lost/audit"]);
    assert_eq!(reason(&again), "RESTORE_NOT_EMPTY");
}
