//! Makes `src/api/src/generated` from `proto/`. It is committed, so that building needs neither this
//! program nor `protoc`.
//!
//! `cargo run -p fieldseal-api-generate` writes the files; with `-- --check` it writes nothing and
//! ends with 1 if they are not what it would write.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs, io};

use prost::Message as _;
use prost_build::Module;
use prost_types::FileDescriptorSet;

/// The files of the contract, one for each service.
const PROTOS: [&str; 4] = [
    "fieldseal/v1/encryption_service.proto",
    "fieldseal/v1/key_service.proto",
    "fieldseal/v1/audit_service.proto",
    "fieldseal/v1/system_service.proto",
];

/// Messages that hold a plaintext, a raw row or partition, or a caller's assertion: `src/debug.rs`
/// of the api crate writes their `Debug` by hand. Messages that contain one of these derive it.
const NO_DEBUG: [&str; 8] = [
    "fieldseal.v1.Value",
    "fieldseal.v1.ContextPair",
    "fieldseal.v1.AccessReason",
    "fieldseal.v1.EncryptRequest",
    "fieldseal.v1.EncryptItem",
    "fieldseal.v1.DecryptRequest",
    "fieldseal.v1.DecryptItem",
    "fieldseal.v1.AuditEventQuery",
];

const HEADER: &str =
    "// Made from proto/ by fieldseal-api-generate. Do not edit: `cargo generate-api`.\n";

type Files = BTreeMap<PathBuf, Vec<u8>>;

fn main() -> ExitCode {
    let check = match env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => false,
        [flag] if flag == "--check" => true,
        _ => return end(2, "usage: fieldseal-api-generate [--check]"),
    };
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = here.join("../src/generated");
    let files = match generate(&here.join("../../../proto")) {
        Ok(files) => files,
        Err(error) => return end(1, &format!("cannot generate: {error}")),
    };
    if !check {
        return match write(&target, &files) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => end(1, &format!("cannot write {}: {error}", target.display())),
        };
    }
    match stale(&target, &files) {
        Ok(names) if names.is_empty() => ExitCode::SUCCESS,
        Ok(names) => {
            let names = names.join(", ");
            end(1, &format!("not current: {names}; run `cargo generate-api` and commit"))
        }
        Err(error) => end(1, &format!("cannot read {}: {error}", target.display())),
    }
}

fn end(code: u8, message: &str) -> ExitCode {
    // Nothing is left to do if standard error is gone.
    let _ = writeln!(io::stderr(), "{message}");
    ExitCode::from(code)
}

/// Every file that should be in the target directory, by name.
fn generate(protos: &Path) -> Result<Files, Box<dyn std::error::Error>> {
    let mut compiler = protox::Compiler::new([protos])?;
    compiler.include_source_info(true).include_imports(true);
    let descriptors = compiler.open_files(PROTOS)?.file_descriptor_set();

    let mut files = Files::new();
    for (name, text) in rust(&descriptors)? {
        files.insert(name.into(), format!("{HEADER}{text}").into_bytes());
    }
    files.insert("descriptors.bin".into(), without_source(descriptors).encode_to_vec());
    Ok(files)
}

fn rust(
    descriptors: &FileDescriptorSet,
) -> Result<Vec<(String, String)>, Box<dyn std::error::Error>> {
    let mut config = prost_build::Config::new();
    config
        .bytes(["."])
        .skip_debug(NO_DEBUG)
        // The details of errors are made and read with tonic-types.
        .extern_path(".google.rpc.Status", "::tonic_types::Status")
        .service_generator(
            tonic_prost_build::configure().emit_rerun_if_changed(false).service_generator(),
        );
    let requests = descriptors
        .file
        .iter()
        .map(|file| (Module::from_protobuf_package_name(file.package()), file.clone()));
    // What is imported is needed to generate, and generates nothing: its types come from crates.
    let modules = config.generate(requests.collect())?;
    Ok(modules
        .into_iter()
        .map(|(module, text)| (module.to_file_name_or("none"), text))
        .filter(|(name, _)| name.starts_with("fieldseal."))
        .collect())
}

/// Reflection needs no comments and no positions.
fn without_source(mut descriptors: FileDescriptorSet) -> FileDescriptorSet {
    for file in &mut descriptors.file {
        file.source_code_info = None;
    }
    descriptors
}

fn write(target: &Path, files: &Files) -> io::Result<()> {
    fs::create_dir_all(target)?;
    for name in present(target)?.into_iter().filter(|name| !files.contains_key(name)) {
        fs::remove_file(target.join(name))?;
    }
    files.iter().try_for_each(|(name, bytes)| fs::write(target.join(name), bytes))
}

/// Names of files that are missing, that differ, or that should not be there.
fn stale(target: &Path, files: &Files) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for (name, bytes) in files {
        match fs::read(target.join(name)) {
            Ok(found) if found == *bytes => {}
            Ok(_) => names.push(name.display().to_string()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                names.push(name.display().to_string());
            }
            Err(error) => return Err(error),
        }
    }
    let extra = present(target)?.into_iter().filter(|name| !files.contains_key(name));
    names.extend(extra.map(|name| name.display().to_string()));
    Ok(names)
}

fn present(target: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(target) {
        Ok(entries) => entries.map(|entry| Ok(entry?.file_name().into())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_changed_or_left_over_is_stale() {
        let dir = tempfile::tempdir().expect("a directory");
        let files = Files::from([("a".into(), b"1".to_vec()), ("b".into(), b"2".to_vec())]);
        assert_eq!(stale(&dir.path().join("none"), &files).expect("stale"), ["a", "b"]);
        fs::write(dir.path().join("a"), b"old").expect("write");
        fs::write(dir.path().join("c"), b"3").expect("write");
        assert_eq!(stale(dir.path(), &files).expect("stale"), ["a", "b", "c"]);
        write(dir.path(), &files).expect("write");
        assert!(stale(dir.path(), &files).expect("stale").is_empty());
    }

    #[test]
    fn the_committed_files_are_current() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let files = generate(&here.join("../../../proto")).expect("generate");
        let names = stale(&here.join("../src/generated"), &files).expect("read");
        assert!(names.is_empty(), "not current: {names:?}; run `cargo generate-api`");
    }
}
