//! The export of the log on a disk that is full.

use super::small::{SmallDisk, in_a_namespace};
use crate::exporting::{Exported, assert_whole, caught_up, says, used};
use crate::installation::Installation;

#[test]
#[ignore = "mounts a small disk: `bash tests/foreign/run` runs it"]
fn a_full_disk_tears_no_line_and_space_that_returns_is_used() {
    if !in_a_namespace("disk::export::a_full_disk_tears_no_line_and_space_that_returns_is_used") {
        return;
    }
    let mut i = Installation::new();
    i.set("reserve_mib = 64", "reserve_mib = 1");
    let exported = Exported::of(&i);
    let disk = SmallDisk::under(&exported.0, 4 * 1024 * 1024);
    i.serve();
    i.ok("ops", &["key", "create", "customer-pii"], b"");
    caught_up(&mut i, &exported);
    let before = exported.text();
    for fill in [|disk: &SmallDisk| disk.fill_to(512 * 1024), SmallDisk::fill] {
        fill(&disk);
        used(&i);
        says(&mut i, "audit_export_failed");
        let export = &i.json("ops", &["status"])["exports"][0];
        assert!(export["failure"].as_str().unwrap().contains("space"), "{export}");
        assert_eq!(exported.text(), before, "no line is torn");
    }
    i.sidecar.take().unwrap().0.kill();
    i.serve();
    used(&i);
    says(&mut i, "audit_export_failed");
    disk.free();
    says(&mut i, "audit_export_ok");
    assert_eq!(i.stop(), 0);
    assert_whole(&i, &exported.text());
}
