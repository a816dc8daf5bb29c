//! What the documents tell people to type is what the command line takes.

use std::path::Path;

use clap::Parser as _;

use super::Arguments;

/// The commands in the blocks of shell, without what the shell does with them.
fn commands(document: &str) -> Vec<Vec<String>> {
    let blocks = document.split("```sh\n").skip(1);
    let blocks = blocks.filter_map(|block| block.split("```").next());
    let mut found = Vec::new();
    for block in blocks {
        for line in block.replace("\\\n", " ").lines() {
            let words = line.split_whitespace();
            let words = words.skip_while(|word| *word != "fieldseal");
            let words = words.take_while(|word| !["#", "|", "<", ">", "&"].contains(word));
            found.push(words.map(str::to_owned).collect());
        }
    }
    found.retain(|words: &Vec<String>| words.len() > 1);
    found
}

#[test]
fn every_command_of_the_documents_is_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let documents = ["README.md", "docs/operations.md", "docs/metrics.md", "docs/audit-log.md"];
    let mut count = 0;
    for document in documents {
        let text = std::fs::read_to_string(root.join(document)).unwrap();
        for words in commands(&text) {
            // `until fieldseal status; do …`
            let words = words.iter().map(|word| word.trim_end_matches(';'));
            let words: Vec<&str> = words.take_while(|word| *word != "do").collect();
            let parsed = Arguments::try_parse_from(&words);
            assert!(parsed.is_ok(), "{document}: {words:?}: {}", parsed.err().unwrap());
            count += 1;
        }
    }
    assert!(count > 50, "{count}");
}
