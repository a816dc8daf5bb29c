use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use super::*;

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("state")).unwrap();
        Self { dir }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn provider(&self) -> FileProvider {
        FileProvider::open(&self.file("root.key"), &self.file("state"), false).unwrap()
    }

    fn made(&self) -> Created {
        let provider = FileProvider::create(&self.file("root.key")).unwrap();
        create(&self.file("keyring.json"), &provider, Recovery::Generate).unwrap()
    }

    /// Replaces one text in the keyring.
    fn edit(&self, from: &str, to: &str) {
        let path = self.file("keyring.json");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(path, text.replace(from, to)).unwrap();
    }
}

fn same(a: &Keyring, b: &Keyring) -> bool {
    a.installation() == b.installation() && a.root().expose() == b.root().expose()
}

#[test]
fn root_key_files_that_others_could_use_are_refused() {
    let place = Place::new();
    place.made();
    let (path, state) = (place.file("root.key"), place.file("state"));
    let refused = |path: &Path| match FileProvider::open(path, &state, false) {
        Err(KeyringError::Unsafe { what, .. }) => what,
        Err(other) => other.to_string(),
        Ok(_) => panic!("{} was taken", path.display()),
    };
    for mode in [0o640, 0o604, 0o620, 0o660, 0o777] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        assert!(refused(&path).contains("chmod 600"), "{mode:o}");
    }
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(FileProvider::open(&path, &state, false).is_ok());
    let link = place.file("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(refused(&link).contains("symbolic link"));
    assert!(refused(&place.file("missing")).contains("cannot open"));
    assert!(refused(&state).contains("not a plain file"));
    let inside = state.join("root.key");
    std::fs::copy(&path, &inside).unwrap();
    assert!(refused(&inside).contains("state directory"));
    assert!(FileProvider::open(&inside, &state, true).is_ok(), "where it is wanted");
    for len in [0, 31, 33, 1000] {
        std::fs::write(&path, vec![7; len]).unwrap();
        assert!(refused(&path).contains("32 bytes"), "{len}");
    }
}

#[test]
fn neither_file_is_ever_made_over_another() {
    let place = Place::new();
    place.made();
    let again = FileProvider::create(&place.file("root.key"));
    assert!(matches!(again, Err(KeyringError::Exists(_))));
    let path = place.file("keyring.json");
    let before = std::fs::read(&path).unwrap();
    let again = create(&path, &place.provider(), Recovery::Generate);
    assert!(matches!(again, Err(KeyringError::Exists(_))));
    assert_eq!(std::fs::read(&path).unwrap(), before);
    let recipient = Recovery::Recipient("age1nonsense".to_owned());
    let refused = create(&place.file("other.json"), &place.provider(), recipient);
    assert!(matches!(refused, Err(KeyringError::Recipient)));
    assert!(!place.file("other.json").exists());
}

#[test]
fn it_opens_with_its_root_key_and_with_its_identity_and_with_no_other() {
    let place = Place::new();
    let made = place.made();
    let path = place.file("keyring.json");
    assert!(same(&made.keyring, &open(&path, &place.provider()).unwrap()));
    let identity = made.identity.unwrap();
    assert!(same(&made.keyring, &open_with_identity(&path, &identity).unwrap()));
    let commented = format!("# created: today\n# public key: x\n{}\n", identity.as_str());
    assert!(same(&made.keyring, &open_with_identity(&path, &commented).unwrap()));

    let other = FileProvider::create(&place.file("other.key")).unwrap();
    assert!(matches!(open(&path, &other), Err(KeyringError::WrongProvider { .. })));
    let (_, stranger) = recovery::generate();
    for wrong in [stranger.as_str(), "", "# nothing", "AGE-SECRET-KEY-1X"] {
        let refused = open_with_identity(&path, wrong);
        assert!(matches!(refused, Err(KeyringError::Identity(_))));
    }
    let missing = open(&place.file("missing.json"), &place.provider());
    assert!(matches!(missing, Err(KeyringError::NotInitialized(_))));
}

#[test]
fn a_recipient_that_is_passed_gets_no_identity_from_us() {
    let place = Place::new();
    let (recipient, identity) = recovery::generate();
    let provider = FileProvider::create(&place.file("root.key")).unwrap();
    let path = place.file("keyring.json");
    let made = create(&path, &provider, Recovery::Recipient(recipient.clone())).unwrap();
    assert!(made.identity.is_none());
    assert_eq!(made.keyring.recipient(), recipient);
    assert!(same(&made.keyring, &open_with_identity(&path, &identity).unwrap()));
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn what_was_altered_is_refused() {
    type Check = fn(&KeyringError) -> bool;
    let damaged: Check = |e| matches!(e, KeyringError::Corrupt { .. });
    let newer: Check = |e| matches!(e, KeyringError::FormatNewer { .. });
    for (from, to, check) in [
        ("\"format\": 1", "\"format\": 2", newer),
        ("\"format\"", "\"version\"", damaged),
        ("\"recovery\"", "\"rescue\"", damaged),
        ("\"storage\": \"", "\"storage\": \"AAAA", damaged),
        ("\"token\"", "\"talking\"", damaged),
        ("\"provider\": \"file\"", "\"provider\": \"hsm\"", damaged),
        ("\"installation\": \"", "\"installation\": \"x", damaged),
        ("\"recipient\": \"age1", "\"recipient\": \"age2", damaged),
        ("\"checksum\": \"", "\"checksum\": \"0", damaged),
    ] {
        let place = Place::new();
        place.made();
        place.edit(from, to);
        let refused = open(&place.file("keyring.json"), &place.provider()).err().unwrap();
        assert!(check(&refused), "{from}: {refused}");
    }
    // A service key of another installation, under this one's name.
    let (one, other) = (Place::new(), Place::new());
    one.made();
    other.made();
    let wrapped = |place: &Place| {
        let text = std::fs::read_to_string(place.file("keyring.json")).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        value["services"]["path"].as_str().unwrap().to_owned()
    };
    one.edit(&wrapped(&one), &wrapped(&other));
    let refused = open(&one.file("keyring.json"), &one.provider());
    assert!(matches!(refused, Err(KeyringError::Corrupt { .. })));
    std::fs::write(one.file("keyring.json"), vec![b' '; 100_000]).unwrap();
    let refused = open(&one.file("keyring.json"), &one.provider());
    assert!(matches!(refused, Err(KeyringError::Corrupt { .. })));
}

#[test]
fn the_file_holds_nothing_in_clear() {
    let place = Place::new();
    let made = place.made();
    let text = std::fs::read(place.file("keyring.json")).unwrap();
    let root = made.keyring.root().expose();
    assert!(!text.windows(32).any(|w| w == root));
    let identity = made.identity.unwrap();
    assert!(!text.windows(identity.len()).any(|w| w == identity.as_bytes()));
}

/// A keyring's second root key, and all that is kept of the old one.
#[test]
fn a_rotation_has_both_root_keys_until_it_is_finished_and_then_the_new_one_alone() {
    let place = Place::new();
    let made = place.made();
    let (path, provider) = (place.file("keyring.json"), place.provider());
    let identity = made.identity.unwrap();
    let before = std::fs::read_to_string(&path).unwrap();
    let old: serde_json::Value = serde_json::from_str(&before).unwrap();
    let recipient = made.keyring.recipient().to_owned();
    let kek = Kek::generate().unwrap();
    let key = fieldseal_model::KeyName::parse("pii").unwrap();
    let version = fieldseal_model::VersionNumber::FIRST;
    let id = KekId { installation: made.keyring.installation(), key: &key, version };
    let under_old = made.keyring.wrap_kek(&id, &kek).unwrap();

    // A whole file that a killed process had not named yet is passed over.
    std::fs::write(place.file("keyring.json.tmp"), "half").unwrap();
    let begun = begin_rotation(&path, &provider, &recipient).unwrap();
    assert!(begun.is_rotating() && is_rotating(&path).unwrap());
    assert!(!same(&begun, &made.keyring), "it wraps with the new one");
    let again = begin_rotation(&path, &provider, &recipient).unwrap();
    assert!(same(&begun, &again), "it goes on with the same");
    let under_new = begun.wrap_kek(&id, &kek).unwrap();
    for open in [open(&path, &provider), open_with_identity(&path, &identity)] {
        let open = open.unwrap();
        assert!(open.unwrap_kek(&id, &under_old).is_ok() && !open.is_newest(&id, &under_old));
        assert!(open.unwrap_kek(&id, &under_new).is_ok() && open.is_newest(&id, &under_new));
    }
    let to = FileProvider::create(&place.file("other.key")).unwrap();
    let refused = rewrap(&path, Opener::Provider(&provider), &to, None);
    assert!(matches!(refused, Err(KeyringError::RotationPending)));

    finish_rotation(&path, &provider).unwrap();
    let finished = open_with_identity(&path, &identity).unwrap();
    assert!(same(&finished, &begun) && !finished.is_rotating());
    assert!(finished.unwrap_kek(&id, &under_old).is_err());
    assert!(finished.unwrap_kek(&id, &under_new).is_ok());
    let after = std::fs::read_to_string(&path).unwrap();
    for gone in [&old["root"]["wrapped"], &old["recovery"]["wrapped"], &old["services"]["path"]] {
        assert!(!after.contains(&gone.to_string()), "{gone}");
    }
    // The service keys are the same: records, paths and tokens stay as they are.
    let (one, other) = (made.keyring, finished);
    for kind in ServiceKeyKind::ALL {
        let (before, after) = (one.service(kind).unwrap(), other.service(kind).unwrap());
        assert!(before.is(&after), "{kind:?}");
    }
    assert!(!place.file("keyring.json.tmp").exists());
}

#[test]
fn a_keyring_moves_to_another_provider_and_another_recipient() {
    let place = Place::new();
    let made = place.made();
    let path = place.file("keyring.json");
    let identity = made.identity.unwrap();
    let other = FileProvider::create(&place.file("other.key")).unwrap();
    rewrap(&path, Opener::Provider(&place.provider()), &other, None).unwrap();
    let refused = open(&path, &place.provider()).err().unwrap().to_string();
    let ids = [RootProvider::id(&other), place.provider().id()];
    assert!(ids.iter().all(|id| refused.contains(id)), "both are named: {refused}");
    assert!(same(&made.keyring, &open(&path, &other).unwrap()));
    assert!(same(&made.keyring, &open_with_identity(&path, &identity).unwrap()));

    // The root key file is lost: the identity is the way back, to a new file and a new recipient.
    std::fs::remove_file(place.file("root.key")).unwrap();
    let new = FileProvider::create(&place.file("root.key")).unwrap();
    let (recipient, heir) = recovery::generate();
    rewrap(&path, Opener::Identity(&identity), &new, Some(&recipient)).unwrap();
    let opened = open(&path, &new).unwrap();
    assert!(same(&made.keyring, &opened));
    assert!(same(&made.keyring, &open_with_identity(&path, &heir).unwrap()));
    let refused = open_with_identity(&path, &identity).err().unwrap().to_string();
    assert!(refused.contains(&recipient) && refused.contains(made.keyring.recipient()));
    assert!(opened.check_recipient(&path, "").is_ok());
    assert!(opened.check_recipient(&path, &recipient).is_ok());
    let refused = opened.check_recipient(&path, made.keyring.recipient());
    let refused = refused.err().unwrap().to_string();
    assert!(refused.contains(&recipient) && refused.contains(made.keyring.recipient()));
    let nobody = rewrap(&path, Opener::Provider(&new), &other, Some("age1nobody"));
    assert!(matches!(nobody, Err(KeyringError::Recipient)));
    assert!(open(&path, &new).is_ok(), "nothing was changed");
}
