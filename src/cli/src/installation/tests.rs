//! What is planned is what is made, and nothing that was there is touched.

use super::*;

fn plan() -> Plan {
    Plan::new("/nowhere", SocketAddr::from(([127, 0, 0, 1], 0)))
}

#[test]
fn callers_of_two_kinds_are_refused() {
    let mut plan = plan();
    plan.members = vec![
        (Role::App, Principal::parse("dns:a").unwrap()),
        (Role::Auditor, Principal::parse("spiffe://d/b").unwrap()),
    ];
    let refused = configuration(&plan, None).map_err(|f| f.reason().to_owned());
    assert_eq!(refused, Err("PRINCIPALS_DIFFER".to_owned()));
}

#[test]
fn a_directory_with_anything_in_it_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("thing"), "").unwrap();
    let refused = claim(dir.path()).map_err(|f| (f.exit(), f.reason().to_owned()));
    assert_eq!(refused, Err((Exit::Conflict, "INSTALLATION_EXISTS".to_owned())));
    assert!(claim(&dir.path().join("new/deep")).is_ok());
}

#[test]
fn a_directory_that_others_can_write_to_is_refused_and_left_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let set =
        |mode| std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(mode)).unwrap();
    for mode in [0o770, 0o702, 0o1777] {
        set(mode);
        let refused = claim(dir.path()).map_err(|f| (f.exit(), f.json().to_string()));
        let (exit, said) = refused.unwrap_err();
        assert_eq!(exit, Exit::Usage);
        assert!(said.contains("others can write") && said.contains("chmod go-w"), "{said}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
    set(0o755);
    assert!(claim(dir.path()).is_ok());
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(dir.path(), Some(1), None).unwrap();
        let refused = claim(dir.path()).map_err(|f| f.reason().to_owned());
        assert_eq!(refused, Err("DIRECTORY_UNSAFE".to_owned()));
    }
}

/// What `fill` says in a directory that another process has begun to use meanwhile.
fn late(dir: &Path, plan: &Plan) -> (String, bool) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut undo = Undo { paths: Vec::new() };
    let config = configuration(plan, None).unwrap();
    let refused = runtime.block_on(fill(plan, dir, &config, &mut undo)).map(drop);
    drop(undo);
    let theirs = std::fs::read(dir.join("state/keyring.json")).is_ok();
    (refused.unwrap_err().reason().to_owned(), theirs)
}

#[test]
fn what_another_init_made_meanwhile_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("state")).unwrap();
    std::fs::write(dir.path().join("state/keyring.json"), "theirs").unwrap();
    std::fs::write(dir.path().join("root.key"), "theirs").unwrap();
    assert_eq!(late(dir.path(), &plan()), ("INSTALLATION_EXISTS".to_owned(), true));
    assert_eq!(std::fs::read(dir.path().join("root.key")).unwrap(), b"theirs");
}

#[test]
fn a_root_key_file_that_is_there_stays_and_what_was_made_goes() {
    let dir = tempfile::tempdir().unwrap();
    let mut plan = plan();
    plan.root_key_file = Some(dir.path().join("shared.key"));
    std::fs::write(dir.path().join("shared.key"), "theirs").unwrap();
    assert_eq!(late(dir.path(), &plan).0, "FILE_EXISTS");
    assert_eq!(std::fs::read(dir.path().join("shared.key")).unwrap(), b"theirs");
    assert!(!dir.path().join("state").exists());
}

#[test]
fn a_root_key_file_in_the_state_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(dir.path(), dir.path().join("link")).unwrap();
    for inside in ["state/root.key", "link/state/../state/root.key"] {
        let mut plan = plan();
        plan.root_key_file = Some(dir.path().join(inside));
        assert_eq!(late(dir.path(), &plan).0, "ROOT_KEY_UNSAFE", "{inside}");
        assert!(!dir.path().join("state").exists());
    }
}

#[test]
fn the_configuration_says_what_was_planned() {
    let mut plan = plan();
    plan.in_memory = true;
    plan.address_file = Some("address".to_owned());
    plan.root_key_file = Some("/else\"where/key".into());
    plan.members = vec![(Role::App, Principal::parse("dns:a").unwrap())];
    plan.settings = vec![("audit.segment_mib", "4".to_owned())];
    let config =
        Config::parse(Path::new("/x/f.toml"), &configuration(&plan, None).unwrap()).unwrap();
    assert_eq!(config.server.address_file, Some("/x/address".into()));
    assert_eq!(config.tls.principal, fieldseal_model::PrincipalKind::Dns);
    assert_eq!(config.audit.segment_bytes, 4 << 20);
    let file = "/else\"where/key".into();
    assert_eq!(config.root, fieldseal_server::config::RootSettings::File { file });
}
#[test]
fn the_server_s_certificate_has_every_name_by_which_it_is_reached() {
    use base64::Engine as _;
    let dir = tempfile::tempdir().unwrap();
    let mut plan = plan();
    plan.server_names = vec!["fieldseal.example.org".to_owned(), "localhost".to_owned()];
    certificates(&plan, dir.path()).unwrap();
    let pem = std::fs::read_to_string(dir.path().join("server.pem")).unwrap();
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = base64::engine::general_purpose::STANDARD.decode(body).unwrap();
    let times = |name: &str| der.windows(name.len()).filter(|w| *w == name.as_bytes()).count();
    assert_eq!(times("fieldseal.example.org"), 1);
    assert_eq!(times("localhost"), 1);
}
