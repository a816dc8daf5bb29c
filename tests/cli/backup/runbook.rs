//! Every command of the chapter "Backups" of docs/operations.md, in its order, as it stands there.

use std::path::{Path, PathBuf};

use super::Backed;
use crate::installation::Installation;
use crate::process::{program, text};

/// The commands of the chapter: lines of shell that begin with `fieldseal`.
fn commands() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md");
    let document = std::fs::read_to_string(path).unwrap();
    let chapter = document.split_once("\n## Backups\n").unwrap().1;
    let chapter = chapter.split_once("\n### What is checked on start\n").unwrap().0;
    let mut found = Vec::new();
    for block in chapter.split("```sh\n").skip(1) {
        let block = block.split("```").next().unwrap().replace("\\\n", " ");
        let lines = block.lines().map(|line| line.split("  #").next().unwrap().trim());
        found.extend(lines.filter(|line| line.starts_with("fieldseal ")).map(str::to_owned));
    }
    found
}

struct Place {
    backed: Backed,
    public_key: PathBuf,
}

impl Place {
    fn at(&self) -> &Installation {
        &self.backed.at
    }

    /// What the words of the document stand for here.
    fn word(&self, word: &str) -> String {
        let at = self.at();
        let config = at.config();
        let state = at.home().join("state");
        let names = [
            ("/etc/fieldseal/fieldseal.toml", config.to_str().unwrap().to_owned()),
            ("/backup/NAME", format!("{}/{}", at.path("backups"), self.newest())),
            ("/backup", at.path("backups")),
            ("/safe/backup-identity", at.path("identity")),
            ("/elsewhere/log.pub", self.public_key.to_str().unwrap().to_owned()),
            ("/survived/audit", at.path("lost/audit")),
            ("/copy/fieldseal", at.path("copy")),
            ("/var/lib/fieldseal/state/audit", state.join("audit").to_str().unwrap().to_owned()),
        ];
        let known = names.into_iter().find(|(stated, _)| *stated == word);
        assert!(known.is_some() || !word.starts_with('/'), "{word} stands for nothing");
        known.map_or_else(|| word.to_owned(), |(_, here)| here)
    }

    fn newest(&self) -> String {
        let Ok(entries) = std::fs::read_dir(self.at().path("backups")) else {
            return String::new();
        };
        let names = entries.map(|entry| entry.unwrap().path());
        let names = names.filter(|path| path.extension().is_some_and(|ending| ending == "age"));
        let name = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
        // Revisions have as many digits here as they have.
        let key = |name: &String| {
            let (time, revision) = name.split_once('-').unwrap();
            (time.to_owned(), revision.parse::<u64>().unwrap())
        };
        names.map(name).max_by_key(key).unwrap_or_default()
    }

    /// Brings about what a command is for: a sidecar that serves, one that is stopped, a lost disk.
    fn prepare(&mut self, command: &str) {
        let running = self.at().sidecar.is_some();
        let is_offline = command.contains("backup create --config");
        if command.starts_with("fieldseal backup create") && !is_offline && !running {
            self.backed.at.serve();
        }
        if (is_offline || command.contains("backup restore")) && running {
            assert_eq!(self.backed.at.stop(), 0);
        }
        let state = self.at().home().join("state");
        if command.contains("backup restore") && state.exists() {
            let lost = self.at().path("lost");
            let _none_before = std::fs::remove_dir_all(&lost);
            std::fs::rename(state, lost).unwrap();
        }
    }
}

#[test]
fn every_command_of_the_chapter_does_what_it_is_there_for() {
    let backed = Backed::configured(|at| {
        std::fs::create_dir(at.path("copy")).unwrap();
        at.set("copy = \"\"", "copy = \"../copy\"");
    });
    let sealed = backed.seal("acme", "value");
    let public_key = PathBuf::from(backed.at.path("log.pub"));
    std::fs::copy(backed.at.log().join("log.pub"), &public_key).unwrap();
    let mut place = Place { backed, public_key };
    let mut done = 0;
    for command in commands() {
        place.prepare(&command);
        let words: Vec<String> =
            command.split_whitespace().skip(1).map(|word| place.word(word)).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let is_call = ["create", "prune"].iter().any(|verb| words[..2] == ["backup", verb]);
        if is_call && !words.contains(&"--config") {
            place.at().ok("ops", &words, b"");
        } else {
            let output = program().args(&words).output().unwrap();
            assert!(output.status.success(), "{command}: {}", text(&output.stderr));
        }
        if command.contains("--without-log second") {
            place.at().set("instance = \"main\"", "instance = \"second\"");
        }
        done += 1;
    }
    assert_eq!(done, 14, "every command was run");
    place.backed.at.serve();
    assert_eq!(place.backed.open("acme", &sealed).as_deref(), Ok("value"));
    let status = place.at().json("ops", &["status"]);
    assert!(status["log_origin"].as_str().unwrap().ends_with("/second"), "{status}");
}
