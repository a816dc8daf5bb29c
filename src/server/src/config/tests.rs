//! What a configuration must be, and that the settings, the example and the reference agree.

use super::setting::Kind;
use super::*;

fn mistakes(text: &str) -> Vec<(Option<usize>, String, String)> {
    let errors = Config::parse(Path::new("/etc/fieldseal/f.toml"), text).unwrap_err();
    let line = |e: &ConfigError| match e.origin {
        Origin::File { line, .. } => line,
        _ => panic!("{e}"),
    };
    let parts = |e: &ConfigError| (line(e), e.setting.clone(), e.message.clone());
    errors.errors().iter().map(parts).collect()
}

#[test]
fn every_mistake_is_reported_at_once_with_its_line() {
    let text = "format = 1\n\
        [server]\n\
        listen = \"nowhere\"\n\
        reflection = \"yes\"\n\
        colour = 1\n\
        [tls]\n\
        principal = \"email\"\n\
        certificate = \"\"\n\
        [state]\n\
        backend = 7\n\
        [audit]\n\
        instance = \"Main\"\n\
        segment_mib = 0\n\
        [limits]\n\
        streams = 4294967297\n\
        in_flight = -1\n\
        deadline_seconds = 1.5\n\
        connections = 10\n\
        [limit]\n\
        x = 1\n";
    let found = mistakes(text);
    let lines: Vec<_> =
        found.iter().map(|(line, setting, _)| (line.unwrap_or(0), setting.as_str())).collect();
    assert_eq!(
        lines,
        [
            (3, "server.listen"),
            (4, "server.reflection"),
            (5, "server.colour"),
            (7, "tls.principal"),
            (8, "tls.certificate"),
            (10, "state.backend"),
            (12, "audit.instance"),
            (13, "audit.segment_mib"),
            (15, "limits.streams"),
            (16, "limits.in_flight"),
            (17, "limits.deadline_seconds"),
            (18, "limits.connections_per_principal"),
            (19, "limit"),
        ]
    );
    let unknown = &found[2].2;
    assert!(unknown.contains("unknown setting") && unknown.contains("reflection"), "{unknown}");
    assert_eq!(found[9].2, "expected a whole number from 1 to 100000");
}

#[test]
fn the_format_must_be_known() {
    for (text, line) in [("", None), ("\nformat = 0\n", Some(2)), ("format = \"1\"", Some(1))] {
        let found = mistakes(text);
        assert_eq!(found.len(), 1, "{text:?}");
        assert_eq!((found[0].0, found[0].1.as_str()), (line, "format"), "{text:?}");
    }
}

#[test]
fn a_newer_format_is_refused_by_name_and_read_no_further() {
    let text = "[server]\nnew = 1\n[and]\nmore = 1\n";
    let error = Config::parse(Path::new("f.toml"), &format!("format = 2\n{text}")).unwrap_err();
    assert!(error.is_newer());
    assert_eq!(
        error.to_string(),
        "f.toml:1: format: the file has format 2, and this program knows format 1; use a newer \
         program, or write the file for format 1"
    );
    let error = Config::parse(Path::new("f.toml"), &format!("format = 1\n{text}")).unwrap_err();
    assert!(!error.is_newer());
}

#[test]
fn broken_syntax_is_reported_with_the_other_mistakes() {
    let found = mistakes("format = 1\n[server]\nlisten =\nreflection = 3\n[tls\n");
    let lines: Vec<_> = found.iter().filter_map(|(line, _, _)| *line).collect();
    assert!([3, 4, 5].iter().all(|line| lines.contains(line)), "{found:?}");
    let twice = mistakes("format = 1\n[keys]\ncached_data_keys = 1\ncached_data_keys = 2\n");
    assert_eq!(twice[0].0, Some(4), "{twice:?}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing.toml");
    let error = Config::load(&missing).unwrap_err().to_string();
    assert!(error.starts_with(missing.to_str().unwrap()), "{error}");
    let long = directory.path().join("long.toml");
    std::fs::write(&long, "#".repeat((1 << 20) + 1)).unwrap();
    for too_long in [Path::new("/dev/zero"), &long] {
        let error = Config::load(too_long).unwrap_err().to_string();
        assert!(error.ends_with("a configuration file has at most 1 MiB"), "{error}");
    }
}

#[test]
fn mistakes_read_like_a_compiler_s() {
    let error = Config::parse(Path::new("f.toml"), "format = 1\n[state]\nbackend = \"x\"\n");
    let text = error.unwrap_err().to_string();
    assert_eq!(text, "f.toml:3: state.backend: expected \"sled\" or \"memory\"");
}

#[test]
fn the_example_says_the_defaults() {
    let file = Path::new("/etc/fieldseal/fieldseal.toml");
    let defaults = Config::parse(file, "format = 1").unwrap();
    let example = Config::example(&[]).unwrap();
    assert_eq!(Config::parse(file, &example), Ok(defaults.clone()));
    assert_eq!(defaults.listener, Limits::default());
    assert_eq!(defaults.calls, CallLimits::default());
    assert_eq!(defaults.message_bytes, crate::transport::MAX_MESSAGE_BYTES);
    assert_eq!(defaults.tls.client_ca, Path::new("/etc/fieldseal/tls/ca.pem"));
    assert_eq!(defaults.state.keyring(), Path::new("/etc/fieldseal/state/keyring.json"));
    assert_eq!(defaults.server.address_file, None);
    for setting in SETTINGS {
        let line = format!("\n{} = {}\n", setting.key(), setting.default_value().to_toml());
        assert!(example.contains(&line), "{line}");
    }
    assert!(example.lines().all(|line| line.chars().count() <= 100));
}

#[test]
fn paths_begin_beside_the_file_and_values_are_taken() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("f.toml");
    let changes = [
        ("server.listen", "127.0.0.1:0"),
        ("server.address_file", "run/address"),
        ("root.file", "/a\"quoted\"/root.key"),
        ("tls.principal", "cn"),
    ];
    std::fs::write(&file, Config::example(&changes).unwrap()).unwrap();
    let (config, _) = Config::load_with_origins(&file, &Environment::default()).unwrap();
    assert_eq!(config.server.listen.port(), 0);
    assert_eq!(config.server.address_file, Some(directory.path().join("run/address")));
    assert_eq!(config.root, RootSettings::File { file: "/a\"quoted\"/root.key".into() });
    assert_eq!(config.tls.principal, PrincipalKind::CommonName);
    for wrong in [("server.listen", "nowhere"), ("server.colour", "1")] {
        let error = Config::example(&[wrong]).unwrap_err();
        assert_eq!(error.errors()[0].setting, wrong.0);
    }
}

/// A legal value that is not the default, as the environment states it.
fn another(setting: &Setting) -> String {
    match setting.kind {
        Kind::Address { .. } => "127.0.0.1:9".to_owned(),
        Kind::OptionalAddress { .. } => "127.0.0.1:10".to_owned(),
        // It is not in the state directory.
        Kind::OptionalPath { .. } if setting.name == "audit.archive_directory" => {
            "/else/archive".to_owned()
        }
        Kind::Path { .. } | Kind::OptionalPath { .. } => "/else/where".to_owned(),
        Kind::Flag { default, .. } => (!default).to_string(),
        // What is written to is not read.
        Kind::Number { .. } if setting.name == "root.passphrase_fd" => "3".to_owned(),
        Kind::Number { default, most, .. } if default < most => (default + 1).to_string(),
        Kind::Number { default, .. } => (default - 1).to_string(),
        Kind::Choice { words, .. } => words.last().unwrap().to_string(),
        Kind::Name { .. } => "another".to_owned(),
        Kind::Text { .. } if setting.name == "root.recovery_recipient" => RECIPIENT.to_owned(),
        Kind::Text { .. } if setting.name == "audit.export_otlp" => "http://[::1]:9".to_owned(),
        Kind::Text { .. } if setting.name == "audit.anchor_url" => {
            "https://[::1]:9/kept".to_owned()
        }
        Kind::Text { .. } if setting.name == "audit.group" => "7".to_owned(),
        Kind::Text { .. } => "ANOTHER".to_owned(),
        Kind::Texts { .. } if setting.name == "keys.require_approval" => {
            "[\"destroy\", \"shred\", \"redact\", \"archive\"]".to_owned()
        }
        Kind::Texts { .. } => format!("[{RECIPIENT:?}]"),
        Kind::Command { .. } => "[\"/a/program\", \"it\"]".to_owned(),
    }
}

const RECIPIENT: &str = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj";

/// What else a setting needs: its root provider, or what stands beside an address.
fn company(name: &str) -> Vec<(&'static str, &'static str)> {
    let exec = [("root.provider", "exec"), ("root.command", "[\"/a/nother\"]")];
    match name {
        "root.credential" => vec![("root.provider", "systemd")],
        "root.passphrase_fd" => vec![("root.provider", "passphrase")],
        "root.command" | "root.deadline_seconds" => exec.to_vec(),
        "root.variable" => vec![("root.provider", "env")],
        "audit.anchor_url" | "audit.anchor_ca" | "audit.anchor_token_file" => {
            vec![("audit.anchor_url", "https://[::1]:8/kept"), ("audit.anchor_ca", "/a/ca.pem")]
        }
        _ => Vec::new(),
    }
}

#[test]
fn every_setting_changes_the_configuration_from_the_file_and_from_the_environment() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("f.toml");
    let load = |text: &str, variables: &[(String, String)]| {
        std::fs::write(&file, text).unwrap();
        let environment = variables.iter().map(|(name, value)| (name, value)).collect();
        Config::load_with_origins(&file, &environment).unwrap()
    };
    for setting in SETTINGS {
        let value = another(setting);
        let mut changes = company(setting.name);
        let usual = Config::example(&changes).unwrap();
        let (defaults, _) = load(&usual, &[]);
        changes.push((setting.name, &value));
        let text = Config::example(&changes).unwrap();
        let (from_file, origins) = load(&text, &[]);
        let only = matches!(setting.kind, Kind::Choice { words: [_], .. });
        // The log is told of each as well, which proves nothing about the fields.
        assert_eq!(from_file.told == defaults.told, only, "{}: {value}", setting.name);
        let untold = Config { told: defaults.told.clone(), ..from_file.clone() };
        assert_eq!(untold == defaults, only, "{}: {value}", setting.name);
        let is_it = |e: &&Effective| e.setting.name == setting.name;
        let origin = &origins.iter().find(is_it).unwrap().origin;
        assert!(matches!(origin, Origin::File { line: Some(_), .. }), "{origin}");

        // The environment wins over a file that says the default.
        let variable = (setting.variable(), value.clone());
        let (from_environment, origins) = load(&usual, &[variable]);
        assert_eq!(from_environment, from_file, "{}", setting.name);
        let origin = &origins.iter().find(is_it).unwrap().origin;
        assert_eq!(*origin, Origin::Variable(setting.variable()));
    }
}

/// What nobody can set is a constant, and listed here.
#[test]
fn every_field_of_the_configuration_has_a_setting() {
    let constants =
        ["keepalive_interval", "keepalive_timeout", "connection_age", "longest_deadline"];
    let values: Vec<_> = SETTINGS.iter().map(another).collect();
    let names = SETTINGS.iter().map(|setting| setting.name);
    let mut changes: Vec<_> = names.zip(values.iter().map(String::as_str)).collect();
    // One root provider has its settings at a time.
    let provider = changes.iter().find(|(name, _)| *name == "root.provider").unwrap().1;
    changes.retain(|(name, _)| {
        let company = company(name);
        // The copy, and the archive, is in a directory or with a program.
        let programs = ["store.copy_command", "audit.archive_command"];
        let is_one = *name != "root.file" && !programs.contains(name);
        let is_other = |(of, wanted): &(&str, &str)| *of == "root.provider" && *wanted != provider;
        is_one && !company.first().is_some_and(is_other)
    });
    let fields = |changes: &[(&str, &str)]| {
        let text = Config::example(changes).unwrap();
        let config = Config::parse(Path::new("/f.toml"), &text).unwrap();
        let lines = format!("{config:#?}");
        lines.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>()
    };
    let changed = fields(&changes);
    let unchanged = fields(&[]).into_iter().filter(|line| {
        let is_value = line.contains(": ") && line.ends_with(',');
        is_value && changed.contains(line)
    });
    let unchanged: Vec<_> =
        unchanged.map(|line| line.split(':').next().unwrap().to_owned()).collect();
    for name in &unchanged {
        assert!(constants.contains(&name.as_str()), "no setting changes {name}");
    }
    assert_eq!(unchanged.len(), constants.len(), "{unchanged:?}");
}

#[test]
fn every_limit_is_kept_at_both_ends() {
    for setting in SETTINGS {
        let Kind::Number { least, most, default, unit, .. } = setting.kind else { continue };
        assert!((least..=most).contains(&default) && !unit.is_empty(), "{}", setting.name);
        for (number, legal) in [
            (Some(i64::from(least)), true),
            (Some(i64::from(most)), true),
            (i64::from(least).checked_sub(1), false),
            (Some(i64::from(most) + 1), false),
        ] {
            let text = number.unwrap().to_string();
            assert_eq!(setting.in_text(&text).is_some(), legal, "{} {text}", setting.name);
        }
        for text in
            ["", "+1", " 1", "1.0", "0x1", "1_0", "99999999999999999999999999999999999999999"]
        {
            assert_eq!(setting.in_text(text), None, "{} {text:?}", setting.name);
        }
    }
}

#[test]
fn mistakes_of_file_and_environment_are_told_together() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("f.toml");
    std::fs::write(&file, "format = 1\n[audit]\ninstance = \"A\"\n").unwrap();
    let environment = [
        ("FIELDSEAL_LIMITS_STREAMS", "many"),
        ("FIELDSEAL_AUDIT_INSTANCE", "main"),
        ("FIELDSEAL_SERVER_LISTENS", "127.0.0.1:1"),
        ("FIELDSEAL_LOG", "loud"),
    ];
    let error = Config::load_with_origins(&file, &environment.into_iter().collect()).unwrap_err();
    let told: Vec<_> = error.errors().iter().map(ToString::to_string).collect();
    let start = format!("{}:3: audit.instance: expected a lower-case letter", file.display());
    assert!(told[0].starts_with(&start), "{told:?}");
    let of_limits =
        "FIELDSEAL_LIMITS_STREAMS: limits.streams: expected a whole number from 1 to 10000";
    assert_eq!(told[1], of_limits);
    assert_eq!(told[2], "FIELDSEAL_LOG: expected off, error, warn, info, debug or trace");
    assert!(told[3].starts_with("FIELDSEAL_SERVER_LISTENS: unknown variable; "), "{told:?}");
    assert_eq!(told.len(), 4);
}

#[test]
fn settings_that_contradict_each_other_name_where_one_was_stated() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("f.toml");
    std::fs::write(&file, "format = 1\n[limits]\nconnections_per_principal = 2\n").unwrap();
    let environment = [("FIELDSEAL_LIMITS_CONNECTIONS", "1")].into_iter().collect();
    let error = Config::load_with_origins(&file, &environment).unwrap_err();
    let expected = format!(
        "{}:3: limits.connections_per_principal: expected at most limits.connections (1); it is 2",
        file.display()
    );
    assert_eq!(error.to_string(), expected);
}

#[test]
fn one_address_for_both_listeners_is_a_mistake() {
    let check = |listen: &str, probes: &str| {
        let text = format!(
            "format = 1\n[server]\nlisten = \"{listen}\"\n[probes]\nlisten = \"{probes}\"\n"
        );
        Config::parse(Path::new("/f.toml"), &text).map(drop).map_err(|error| error.to_string())
    };
    let told = check("127.0.0.1:7443", "127.0.0.1:7443").unwrap_err();
    let expected = "/f.toml:5: probes.listen: expected another address than server.listen";
    assert!(told.starts_with(expected), "{told}");
    assert!(check("0.0.0.0:7443", "127.0.0.1:7443").is_err());
    for (listen, probes) in [
        ("127.0.0.1:0", "127.0.0.1:0"),
        ("127.0.0.1:7443", "127.0.0.1:7444"),
        ("127.0.0.1:7443", "127.0.0.2:7443"),
        ("127.0.0.1:7443", ""),
    ] {
        assert_eq!(check(listen, probes), Ok(()), "{listen} {probes}");
    }
}

#[test]
fn sections_stand_together_and_meanings_are_sentences() {
    let mut sections: Vec<_> = SETTINGS.iter().map(Setting::section).collect();
    sections.dedup();
    let together = sections.len();
    sections.sort_unstable();
    sections.dedup();
    assert_eq!(sections.len(), together);
    for Setting { name, meaning, .. } in SETTINGS {
        assert!(meaning.ends_with('.') && !meaning.contains("  "), "{name}: {meaning}");
    }
}

#[test]
fn the_reference_is_made_from_the_table() {
    let committed = include_str!("../../../../docs/configuration.md");
    assert!(
        committed == Config::reference(),
        "make it anew: cargo run -- config reference > docs/configuration.md"
    );
}

#[test]
fn a_root_provider_has_its_own_settings_and_no_other_s() {
    for (text, line, says) in [
        ("provider = \"exec\"", Some(3), "expected a program"),
        ("provider = \"exec\"\ncommand = []", Some(4), "expected a program"),
        ("command = [\"/a\"]", Some(3), "only with root.provider = \"exec\"; it is \"file\""),
        ("command = [\"a\"]", Some(3), "absolute path"),
        ("command = \"/a\"", Some(3), "an array of texts"),
        ("provider = \"env\"\nfile = \"/else\"", Some(4), "it is \"env\""),
        ("provider = \"env\"\nvariable = \"FIELDSEAL_X\"", Some(4), "only FIELDSEAL_ROOT_KEY"),
        ("provider = \"env\"\nvariable = \"a=b\"", Some(4), "A-Z, 0-9 and _"),
        ("provider = \"passphrase\"\npassphrase_fd = 2", Some(4), "nothing is read from there"),
        ("recovery_recipient = \"age1nonsense\"", Some(3), "an age recipient"),
    ] {
        let mistakes = mistakes(&format!("format = 1\n[root]\n{text}\n"));
        let [(place, setting, message)] = mistakes.as_slice() else {
            panic!("{text}: {mistakes:?}")
        };
        assert_eq!(*place, line, "{text}: {message}");
        assert!(setting.starts_with("root.") && message.contains(says), "{text}: {message}");
    }
    // A default that is stated all the same is no mistake: the example states every one.
    for provider in RootSettings::PROVIDERS.iter().filter(|provider| **provider != "exec") {
        let text = Config::example(&[("root.provider", provider)]).unwrap();
        let config = Config::parse(Path::new("/f.toml"), &text).unwrap();
        assert_eq!(config.root.provider(), *provider);
    }
}

#[test]
fn an_archive_is_in_one_place_and_outside_of_the_state() {
    let text = |more: &str| format!("format = 1\n[audit]\n{more}");
    let both = "archive_directory = \"/a\"\narchive_command = [\"/bin/keep\"]\n";
    let found = mistakes(&text(both));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].2, "expected either a directory or a program, not both");
    for inside in ["state", "state/archive", "./state/../state/audit", "other/../state/x"] {
        let found = mistakes(&text(&format!("archive_directory = \"{inside}\"\n")));
        assert_eq!(found.len(), 1, "{inside}");
        assert_eq!(found[0].1, "audit.archive_directory");
        assert!(found[0].2.starts_with("expected a directory outside of the state"), "{found:?}");
    }
    for outside in ["archive", "stateful", "state/../archive"] {
        let text = text(&format!("archive_directory = \"{outside}\"\n"));
        assert!(Config::parse(Path::new("/etc/fieldseal/f.toml"), &text).is_ok(), "{outside}");
    }
    for wrong in ["archive_command = [\"keep\"]", "at_hand_days = -1", "at_hand_days = 3661"] {
        assert_eq!(mistakes(&text(wrong)).len(), 1, "{wrong}");
    }
}

#[test]
fn a_class_that_could_not_be_erased_in_time_is_refused() {
    let config = |more: &str| format!("format = 1\n[audit]\narchive_directory = \"/a\"\n{more}");
    // All as long as the longest; shorter than what is at hand; for good.
    for right in [
        "",
        "keep_calls_days = 92",
        "keep_questions_days = 30\nkeep_refusals_days = 1",
        "at_hand_days = 366\nkeep_calls_days = 0",
        "at_hand_days = 0\nkeep_calls_days = 200",
        "keep_calls_days = 0\nkeep_refusals_days = 0\nkeep_questions_days = 0\nkeep_changes_days = 0",
    ] {
        let right = Config::parse(Path::new("/etc/fieldseal/f.toml"), &config(right));
        assert!(right.is_ok(), "{right:?}");
    }
    let without = "format = 1\n[audit]\nkeep_calls_days = 200\n";
    assert!(Config::parse(Path::new("/f.toml"), without).is_ok());
    for (wrong, setting) in [
        ("keep_calls_days = 93", "audit.keep_calls_days"),
        ("keep_questions_days = 365", "audit.keep_questions_days"),
        ("at_hand_days = 20\nkeep_changes_days = 21", "audit.keep_changes_days"),
    ] {
        let found = mistakes(&config(wrong));
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].1, setting);
        assert!(found[0].2.starts_with("expected at most audit.at_hand_days ("), "{found:?}");
    }
    // One that is kept for good is longer than all others.
    let all = Config::parse(Path::new("/f.toml"), &config("keep_calls_days = 0")).unwrap_err();
    assert_eq!(all.errors().len(), 3, "{all}");
}
