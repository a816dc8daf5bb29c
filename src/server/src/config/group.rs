//! `[audit]`: who may read the log's files beside the sidecar's user.

use super::setting::{Kind, Setting};

/// Where groups have their names.
const GROUPS: &str = "/etc/group";

pub(super) const GROUP: Setting = Setting {
    name: "audit.group",
    meaning: "A group that may read the files of the log, of its indexes and of archive_directory (0640, in \
        directories 0750); the sidecar's user must be in it. \"\" is none: then they are the user's alone (0600, \
        0700).",
    kind: Kind::Text {
        default: "",
        takes: "the name of a group in /etc/group, the number of any group, or \"\" for none",
        is: |text| text.is_empty() || id(text).is_some(),
        set: |config, text| config.audit.group = id(&text),
    },
};

fn id(text: &str) -> Option<u32> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        // The largest number means "leave it" to the operating system.
        return text.parse().ok().filter(|number| *number != u32::MAX);
    }
    named(&std::fs::read_to_string(GROUPS).ok()?, text)
}

/// The number of a group in lines of `name:password:number:members`.
fn named(groups: &str, name: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut parts = line.split(':');
        let is_it = parts.next() == Some(name);
        parts.nth(1).filter(|_| is_it)?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_has_a_number_or_a_name_that_exists() {
        let groups = "root:x:0:\nauditors:x:4711:ann,ben\naudit:x:9:\n# no:x:1:\nbad:x:\n";
        assert_eq!(named(groups, "auditors"), Some(4711));
        assert_eq!((named(groups, "audit"), named(groups, "root")), (Some(9), Some(0)));
        for none in ["auditor", "x", "bad", "ann", "", "4711"] {
            assert_eq!(named(groups, none), None, "{none}");
        }
        assert_eq!((id("4711"), id("0")), (Some(4711), Some(0)));
        for none in ["4294967295", "4294967296", "-1", "+1", "1 ", "no-such-group", "\0"] {
            assert_eq!(id(none), None, "{none}");
        }
        assert_eq!(id("root").or(id("wheel")), Some(0));
    }
}
