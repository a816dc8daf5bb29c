//! The copy of a store: what was acknowledged is in it, and what is not in it is not acknowledged.

use std::fs;
use std::path::{Path, PathBuf};

use fieldseal_model::InstallationId;
use fieldseal_store::{
    CopyError, CopyOwner, CopyPart, CopyReader, CopyTarget, Import, RawEntry, TxnError,
};

use crate::place::{InMemory, OnSled, Opened, Place, secrets, txn};

const OWNER: CopyOwner =
    CopyOwner { installation: InstallationId::new([1; 16]), incarnation: 2, life: [7; 16] };

fn name(number: u32) -> String {
    format!("name {number}")
}

/// Makes a store of a copy; the revision that it has come to.
fn restore<P: Place>(copy: &Path) -> Result<(P, Opened, u64), CopyError> {
    let place = P::new();
    let mut import = Import::begin(&place.settings(), secrets()).unwrap();
    let mut reader = CopyReader::open(copy)?;
    assert_eq!(reader.owner(), OWNER);
    let mut at = 0;
    let altered = || CopyError::Altered { place: String::new(), what: "its sum".into() };
    while let Some(part) = reader.part()? {
        let (writes, end) = match part {
            CopyPart::Base(entries) => {
                (entries.into_iter().map(|e| (e.path, Some(e.stored))).collect(), None)
            }
            CopyPart::BaseEnd { revision, anchor } => (Vec::new(), Some((revision, anchor))),
            CopyPart::Group { revision, anchor, writes } => (writes, Some((revision, anchor))),
        };
        for (path, stored) in writes {
            let entry = stored.map(|stored| RawEntry { path: path.clone(), stored });
            match entry {
                Some(entry) if entry.is_event() => {}
                Some(entry) => import.put(entry).map_err(|_| altered())?,
                None => import.remove(path).unwrap(),
            }
        }
        if let Some((revision, anchor)) = end {
            at = revision;
            if import.anchor() != anchor {
                return Err(altered());
            }
        }
    }
    import.finish(at).unwrap();
    let opened = place.open();
    Ok((place, opened, at))
}

async fn begin(opened: &Opened, directory: &Path) -> Result<(), CopyError> {
    opened.store.copy_to(CopyTarget::Directory(directory.to_owned()), OWNER, None).await
}

async fn what_was_acknowledged_is_in_the_copy_on<P: Place>() {
    let directory = tempfile::tempdir().unwrap();
    let place = P::new();
    let opened = place.create();
    for number in 0..10 {
        opened.put(&opened.path(&[&name(number)]), "before").await;
    }
    begin(&opened, directory.path()).await.unwrap();
    for number in 5..15 {
        opened.put(&opened.path(&[&name(number)]), "after").await;
    }
    opened.store.txn(txn().delete(opened.path(&[&name(0)]))).await.unwrap();
    // A restart goes on with the same copy, and another store's beginning is in it still.
    opened.close().await;
    let opened = place.open();
    let length = || fs::metadata(directory.path().join("store.copy")).unwrap().len();
    let before = length();
    begin(&opened, directory.path()).await.unwrap();
    assert_eq!(length(), before, "it is not begun anew");
    opened.put(&opened.path(&["last"]), "last").await;
    opened.close().await;
    let (_place, copy, revision) = restore::<P>(directory.path()).unwrap();
    assert_eq!(revision, 22);
    copy.assert_sums_agree().await;
    let value = async |name: &str| copy.value(&copy.path(&[name])).await;
    assert_eq!(value("last").await.as_deref(), Some("last"));
    assert_eq!(value(&name(0)).await, None);
    assert_eq!(value(&name(4)).await.as_deref(), Some("before"));
    for number in 5..15 {
        assert_eq!(value(&name(number)).await.as_deref(), Some("after"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_in_the_copy() {
    what_was_acknowledged_is_in_the_copy_on::<OnSled>().await;
    what_was_acknowledged_is_in_the_copy_on::<InMemory>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_copy_nothing_is_changed_until_it_is_back() {
    let directory = tempfile::tempdir().unwrap();
    let (here, away) = (directory.path().join("here"), directory.path().join("away"));
    fs::create_dir(&here).unwrap();
    let mut opened = InMemory::new().create();
    begin(&opened, &here).await.unwrap();
    let path = opened.path(&["name"]);
    let revision = opened.put(&path, "one").await;
    opened.drain();
    fs::rename(&here, &away).unwrap();
    for _ in 0..3 {
        let refused = opened.store.txn(txn().put(path.clone(), b"two".to_vec())).await;
        assert!(matches!(refused, Err(TxnError::CopyUnavailable(_))), "{refused:?}");
    }
    assert!(opened.store.copy_trouble().is_some());
    assert_eq!(opened.value(&path).await.as_deref(), Some("one"), "it is still read");
    assert_eq!(opened.store.outbox().await.unwrap().len(), 1);
    opened.store.outbox_done(revision).await.unwrap();
    assert!(opened.store.outbox().await.unwrap().is_empty());
    assert!(opened.drain().is_empty());
    opened.assert_sums_agree().await;
    fs::rename(&away, &here).unwrap();
    // It is tried again once a second at most.
    let again = loop {
        match opened.store.txn(txn().put(path.clone(), b"two".to_vec())).await {
            Err(TxnError::CopyUnavailable(_)) => tokio::task::yield_now().await,
            other => break other.unwrap(),
        }
    };
    assert_eq!(again, revision + 1, "no revision was used up");
    assert!(opened.store.copy_trouble().is_none());
    let (_place, copy, at) = restore::<InMemory>(&here).unwrap();
    assert_eq!((at, copy.value(&path).await.as_deref()), (again, Some("two")));
    // A copy that is not there at the start holds up nothing but changes.
    fs::rename(&here, &away).unwrap();
    let other = InMemory::new().create();
    begin(&other, &here).await.unwrap();
    let refused = other.store.txn(txn().put(path.clone(), Vec::new())).await;
    assert!(matches!(refused, Err(TxnError::CopyUnavailable(_))));
    assert_eq!(other.value(&path).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_something_else_is_refused_and_an_older_one_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let opened = InMemory::new().create();
    begin(&opened, directory.path()).await.unwrap();
    opened.put(&opened.path(&["name"]), "one").await;
    opened.put(&opened.path(&["name"]), "two").await;
    let held = fs::read(directory.path().join("store.copy")).unwrap();
    let begin = async |owner: CopyOwner| {
        let opened = InMemory::new().create();
        opened.store.copy_to(CopyTarget::Directory(directory.path().to_owned()), owner, None).await
    };
    let other = CopyOwner { installation: InstallationId::new([9; 16]), ..OWNER };
    assert!(matches!(begin(other).await, Err(CopyError::Foreign { .. })));
    let other = CopyOwner { life: [8; 16], ..OWNER };
    assert!(matches!(begin(other).await, Err(CopyError::Foreign { .. })));
    let earlier = CopyOwner { incarnation: 1, ..OWNER };
    assert!(matches!(begin(earlier).await, Err(CopyError::Newer { found: 2, own: 1, .. })));
    assert_eq!(fs::read(directory.path().join("store.copy")).unwrap(), held);
    // The next life begins a copy of its own; the one before stays, because something may need it.
    begin(CopyOwner { incarnation: 3, ..OWNER }).await.unwrap();
    assert_eq!(fs::read(directory.path().join("store.incarnation-2.copy")).unwrap(), held);
    // A store that went back in time does not write over what it has lost.
    fs::write(directory.path().join("store.copy"), &held).unwrap();
    begin(OWNER).await.unwrap();
    assert_eq!(fs::read(directory.path().join("store.revision-2.copy")).unwrap(), held);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_is_altered_or_cut_anywhere_is_not_taken_for_whole() {
    let directory = tempfile::tempdir().unwrap();
    let opened = InMemory::new().create();
    opened.put(&opened.path(&["base"]), "base").await;
    begin(&opened, directory.path()).await.unwrap();
    for number in 0..4 {
        opened.put(&opened.path(&[&name(number)]), "value").await;
    }
    let whole = fs::read(directory.path().join("store.copy")).unwrap();
    let path: PathBuf = directory.path().join("altered");
    let (mut refused, mut torn) = (0, 0);
    let mut look = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        match restore::<InMemory>(&path) {
            Err(CopyError::Altered { .. }) => refused += 1,
            Err(other) => panic!("{other}"),
            // What is missing is the end, and it is seen that something is.
            Ok((_, _, revision)) => {
                let mut reader = CopyReader::open(&path).unwrap();
                while reader.part().unwrap().is_some() {}
                assert!(revision < 5 && (reader.is_torn() || bytes.len() < whole.len()));
                torn += 1;
            }
        }
    };
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        look(&bytes);
    }
    for end in (0..whole.len()).step_by(7) {
        look(&whole[..end]);
    }
    assert!(refused > 500 && torn > 100, "{refused} refused, {torn} torn");
}

/// Keeps frames in a file, and answers each when it is there.
const PROGRAM: &str = r#"
while :; do
  head=$(dd bs=1 count=9 2>/dev/null | tee -a "$1" | od -An -v -tu1)
  set -- "$1" $head
  [ $# = 10 ] || exit 0
  rest=$(( $6 + 256 * $7 + 65536 * $8 + 16777216 * $9 + 4 ))
  dd bs=1 count=$rest 2>/dev/null >> "$1"
  [ -e "$1.full" ] && { echo "no space"; exit 1; }
  echo ok
done
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_takes_the_copy_as_well() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("kept");
    let shown = file.to_str().unwrap().to_owned();
    let words = ["/bin/sh", "-c", PROGRAM, "copy", &shown].map(str::to_owned).to_vec();
    let opened = InMemory::new().create();
    opened.put(&opened.path(&["base"]), "base").await;
    opened.store.copy_to(CopyTarget::Command(words), OWNER, None).await.unwrap();
    for number in 0..3 {
        opened.put(&opened.path(&[&name(number)]), "value").await;
    }
    let (_place, copy, revision) = restore::<InMemory>(&file).unwrap();
    assert_eq!(revision, 4);
    assert_eq!(copy.value(&copy.path(&[&name(2)])).await.as_deref(), Some("value"));
    // What the program refuses is not acknowledged; once it takes it again, it gets all of it anew.
    fs::write(directory.path().join("kept.full"), b"").unwrap();
    let refused = opened.store.txn(txn().put(opened.path(&["more"]), b"more".to_vec())).await;
    assert!(matches!(&refused, Err(TxnError::CopyUnavailable(why)) if why.contains("no space")));
    fs::remove_file(directory.path().join("kept.full")).unwrap();
    fs::remove_file(&file).unwrap();
    let again = loop {
        let change = txn().put(opened.path(&["more"]), b"more".to_vec());
        match opened.store.txn(change).await {
            Err(TxnError::CopyUnavailable(_)) => tokio::task::yield_now().await,
            other => break other.unwrap(),
        }
    };
    let (_place, copy, revision) = restore::<InMemory>(&file).unwrap();
    assert_eq!((revision, again), (5, 5));
    assert_eq!(copy.value(&copy.path(&["more"])).await.as_deref(), Some("more"));
}
