//! What a record says that an index needs, read without building a message: this runs over every
//! record of the log. A record that does not fit its own commitments is none.

use super::rows::{self, Item};
use crate::merkle::{Frontier, Hash};
use crate::record::{COMMITMENT_BYTES, REDACTED, Record, SALT_BYTES};
use crate::wire;
use fieldseal_crypto::sha256;

/// What many records have in common: everything public but time, purpose and the numbers of a
/// change, and how the items of each verdict ended.
pub(crate) struct Shape {
    pub(crate) record: Record,
    /// The verdict and the outcome of an item; each pair once.
    pub(super) items: Vec<(u32, u32)>,
}

impl Shape {
    /// Reads what [`Scan::read`] wrote.
    pub(super) fn parse(mut bytes: &[u8]) -> Option<Self> {
        let count = wire::read_varint(&mut bytes)?;
        let mut items = Vec::new();
        for _ in 0..count {
            let verdict = u32::try_from(wire::read_varint(&mut bytes)?).ok()?;
            items.push((verdict, u32::try_from(wire::read_varint(&mut bytes)?).ok()?));
        }
        let record: Record = prost::Message::decode(bytes).ok()?;
        if items.is_empty() && !record.verdicts.is_empty() {
            // As a query sees a change: one item, of the first verdict.
            items.push((0, 0));
        }
        Some(Self { record, items })
    }
}

/// What a term is about, so that a purpose is not taken for a ticket.
#[derive(Clone, Copy)]
pub(super) enum Text {
    Purpose = 1,
    Ticket = 2,
    Erased = 3,
}

/// The term of a record of which detail was erased.
pub(super) fn erased_term() -> u32 {
    text_term(Text::Erased, &[])
}

/// The term of a text: a number that others may have as well.
pub(super) fn text_term(what: Text, text: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[what as u8]);
    hasher.update(text);
    hasher.finalize()
}

/// The term of a row's, a partition's or an end user's token: its beginning. The tokens are as good as random.
pub(super) fn token_term(token: &[u8]) -> Option<u32> {
    token.first_chunk().map(|first| u32::from_be_bytes(*first))
}

/// The last record that was read.
#[derive(Default)]
pub(super) struct Scan {
    pub(super) time: i64,
    /// `varint count | (varint verdict | varint outcome)* | public fields`.
    pub(super) shape: Vec<u8>,
    /// The terms of its rows, partitions, end user, purpose and ticket, and that of what was erased.
    pub(super) terms: Vec<u32>,
    /// Its items, in their order.
    pub(super) rows: Vec<Item>,
    /// False if part of its detail was erased, or if it stands for many calls: what a count needs of it is
    /// not known.
    pub(super) is_whole: bool,
    /// Of a change: the key's version.
    pub(super) key_version: u32,
    public: Vec<u8>,
    items: Vec<(u32, u32)>,
    one: Vec<u8>,
}

impl Scan {
    /// Reads a record; `None` if it is none or its detail is not the one that it commits to.
    pub(super) fn read(&mut self, leaf: &[u8], detail: &[u8]) -> Option<()> {
        let (public, commitment) =
            leaf.split_at_checked(leaf.len().checked_sub(COMMITMENT_BYTES)?)?;
        (self.time, self.key_version, self.is_whole) = (0, 0, true);
        self.rows.clear();
        self.terms.clear();
        self.items.clear();
        self.public.clear();
        let mut verdicts = 0;
        for field in Fields(public) {
            let Field { tag, value, raw } = field?;
            verdicts += u32::from(tag == 7);
            match (tag, value) {
                (2, Value::Eight(bytes)) => self.time = i64::from_le_bytes(bytes),
                (6, Value::Bytes(purpose)) => self.terms.push(text_term(Text::Purpose, purpose)),
                (11, Value::Number(version)) => self.key_version = u32::try_from(version).ok()?,
                // So many refusals: an index counts calls one by one.
                (30, _) => self.is_whole = false,
                (1 | 3 | 4 | 5 | 7, _) => self.public.extend_from_slice(raw),
                _ => {}
            }
        }
        if detail.is_empty() {
            if commitment.iter().any(|b| *b != 0) {
                self.is_whole = false;
                self.terms.push(erased_term());
                // It was erased: as a query sees it, an item of each verdict.
                self.items.extend((0..verdicts).map(|verdict| (verdict, 0)));
            }
        } else {
            self.detail(detail, commitment)?;
        }
        self.items.sort_unstable();
        self.items.dedup();
        self.shape.clear();
        wire::varint(&mut self.shape, self.items.len() as u64);
        for (verdict, outcome) in &self.items {
            wire::varint(&mut self.shape, (*verdict).into());
            wire::varint(&mut self.shape, (*outcome).into());
        }
        self.shape.extend_from_slice(&self.public);
        Some(())
    }

    fn detail(&mut self, detail: &[u8], commitment: &[u8]) -> Option<()> {
        let (salt, mut rest) = detail.split_at_checked(SALT_BYTES)?;
        let head = cut(&mut rest)?;
        if sha256(&[salt, head]) != commitment {
            return None;
        }
        let (mut root, mut count, mut partition) = (&[][..], 0, None);
        for field in Fields(head) {
            let Field { tag, value, .. } = field?;
            match (tag, value) {
                (1, Value::Bytes(ticket)) => self.terms.push(text_term(Text::Ticket, ticket)),
                (2, Value::Bytes(hash)) => root = hash,
                (3, Value::Number(number)) => count = number,
                (4 | 5, Value::Bytes(token)) => {
                    self.terms.push(token_term(token)?);
                    if tag == 4 {
                        partition = Some(rows::partition(token)?);
                    }
                }
                _ => {}
            }
        }
        let (found, items) = self.items(rest)?;
        if partition.is_some() {
            self.rows.iter_mut().for_each(|row| row.partition = partition);
        }
        let same = match items {
            0 => root.is_empty(),
            _ => *root == found,
        };
        (same && items == count).then_some(())
    }

    /// The root over the items, and how many there are.
    fn items(&mut self, mut rest: &[u8]) -> Option<(Hash, u64)> {
        let mut tree = Frontier::default();
        let mut is_erased = false;
        while !rest.is_empty() {
            let (salt, after) = rest.split_at_checked(SALT_BYTES)?;
            rest = after;
            if salt == REDACTED {
                let (hash, after) = rest.split_first_chunk()?;
                tree.append(*hash);
                rest = after;
                self.is_whole = false;
                is_erased = true;
                continue;
            }
            let item = cut(&mut rest)?;
            self.one.clear();
            self.one.push(0);
            self.one.extend_from_slice(salt);
            self.one.extend_from_slice(item);
            tree.append(sha256(&[&self.one]));
            self.item(item)?;
        }
        self.terms.extend(is_erased.then(erased_term));
        Some((tree.root(), tree.size()))
    }

    fn item(&mut self, item: &[u8]) -> Option<()> {
        let (mut verdict, mut outcome, mut key_version, mut partition) = (0, 0, 0, None);
        for field in Fields(item) {
            let Field { tag, value, .. } = field?;
            match (tag, value) {
                (1, Value::Number(number)) => verdict = u32::try_from(number).ok()?,
                (2, Value::Bytes(token)) => self.terms.push(token_term(token)?),
                (3, Value::Bytes(token)) => {
                    self.terms.push(token_term(token)?);
                    partition = Some(rows::partition(token)?);
                }
                (4, Value::Number(number)) => key_version = u32::try_from(number).ok()?,
                (5, Value::Number(number)) => outcome = u32::try_from(number).ok()?,
                _ => {}
            }
        }
        if self.items.last() != Some(&(verdict, outcome)) {
            self.items.push((verdict, outcome));
        }
        self.rows.push(Item { verdict, outcome, key_version, partition });
        Some(())
    }
}

/// `varint length | bytes`.
fn cut<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(wire::read_varint(rest)?).ok()?;
    let (part, after) = rest.split_at_checked(len)?;
    *rest = after;
    Some(part)
}

/// The fields of a protobuf message; `None` in the place of one that is cut off.
struct Fields<'a>(&'a [u8]);

struct Field<'a> {
    tag: u64,
    value: Value<'a>,
    /// All of its bytes.
    raw: &'a [u8],
}

enum Value<'a> {
    Number(u64),
    Eight([u8; 8]),
    Four,
    Bytes(&'a [u8]),
}

impl<'a> Iterator for Fields<'a> {
    type Item = Option<Field<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = next_field(&mut self.0);
        if field.is_none() {
            self.0 = &[];
        }
        Some(field)
    }
}

fn next_field<'a>(rest: &mut &'a [u8]) -> Option<Field<'a>> {
    let whole = *rest;
    let key = wire::read_varint(rest)?;
    let value = match key & 7 {
        0 => Value::Number(wire::read_varint(rest)?),
        1 => {
            let (bytes, after) = rest.split_first_chunk()?;
            *rest = after;
            Value::Eight(*bytes)
        }
        2 => Value::Bytes(cut(rest)?),
        5 => {
            *rest = rest.get(4..)?;
            Value::Four
        }
        _ => return None,
    };
    let raw = whole.get(..whole.len().checked_sub(rest.len())?)?;
    Some(Field { tag: key >> 3, value, raw })
}
