//! What a verifier remembers of a log, so that the next run reads only what is new.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fieldseal_crypto::sha256;
use fieldseal_model::hex;

use crate::merkle::{Frontier, Hash};
use crate::record::LastChange;

use super::{LogKey, Verdict, VerifyError, remembered};

const FORMAT: &str = "fieldseal.dev/audit-verify-state/v1";
/// What a log is said to be that a next run can go on from.
const GOOD: [Verdict; 3] = [Verdict::Ok, Verdict::Redacted, Verdict::Archived];

/// The newest checkpoint that was verified, and what it takes to read on behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The number of the segment with the checkpoint's frame.
    pub(super) segment: u64,
    /// Where that frame begins.
    pub(super) frame: u64,
    /// The tree of the checkpoint.
    pub(super) tree: Frontier,
    /// The newest change of the store up to there.
    pub(super) last_change: Option<LastChange>,
    /// What was said of all records up to there, the worst of it: one of `GOOD`.
    pub(super) verdict: Verdict,
    /// The checkpoint, a signed note.
    pub(super) note: String,
}

impl State {
    /// How many records were verified.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.tree.size()
    }

    /// The text of a file that [`State::parse`] reads.
    #[must_use]
    pub fn text(&self) -> String {
        let peaks: Vec<String> = self.tree.peaks().iter().map(|p| STANDARD.encode(p)).collect();
        let change = self.last_change.map_or("none".to_owned(), |change| {
            let LastChange { revision, anchor, index } = change;
            format!("{revision} {index} {}", STANDARD.encode(anchor))
        });
        let (segment, frame, peaks) = (self.segment, self.frame, peaks.join(" "));
        let (verdict, note) = (self.verdict.as_str(), &self.note);
        let text = format!(
            "{FORMAT}\nsegment {segment}\nframe {frame}\npeaks {peaks}\nchange {change}\n\
             verdict {verdict}\n\n{note}"
        );
        format!("{text}\nsha256 {}\n", hex::encode(&sha256(&[text.as_bytes()])))
    }

    /// Reads the text of a state.
    ///
    /// # Errors
    /// `State` if it is none, or was cut off or altered; `StateForeign` if its checkpoint is another
    /// log's or was not signed by this key.
    pub fn parse(text: &str, key: &LogKey) -> Result<Self, VerifyError> {
        let state = Self::read(text).ok_or(VerifyError::State)?;
        let checkpoint = remembered(&state.note, key).map_err(|error| match error {
            VerifyError::CheckpointForeign { found, expected } => {
                VerifyError::StateForeign { found, expected }
            }
            _ => VerifyError::State,
        })?;
        let fits = checkpoint.size == state.tree.size() && checkpoint.root == state.tree.root();
        fits.then_some(state).ok_or(VerifyError::State)
    }

    fn read(text: &str) -> Option<Self> {
        let (covered, digest) = text.strip_suffix('\n')?.rsplit_once("\nsha256 ")?;
        if hex::encode(&sha256(&[covered.as_bytes()])) != digest {
            return None;
        }
        let (head, note) = covered.split_once("\n\n")?;
        let mut lines = head.strip_prefix(FORMAT)?.strip_prefix('\n')?.lines();
        let mut next = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
        let (segment, frame) = (next("segment")?.parse().ok()?, next("frame")?.parse().ok()?);
        let peaks: Option<Vec<Hash>> = next("peaks")?.split(' ').map(hash).collect();
        let last_change = match next("change")? {
            "none" => None,
            change => Some(last_change(change)?),
        };
        let said = next("verdict")?;
        let verdict = GOOD.into_iter().find(|verdict| verdict.as_str() == said)?;
        let size = note.lines().nth(1)?.parse().ok()?;
        let tree = Frontier::from_parts(size, peaks?)?;
        Some(Self { segment, frame, tree, last_change, verdict, note: note.to_owned() })
    }
}

fn last_change(text: &str) -> Option<LastChange> {
    let mut words = text.split(' ');
    let (revision, index) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some(LastChange { revision, index, anchor: hash(words.next()?)? })
}

fn hash(text: &str) -> Option<Hash> {
    STANDARD.decode(text).ok()?.try_into().ok()
}
