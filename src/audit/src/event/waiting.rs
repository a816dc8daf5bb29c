//! A change's event while it waits in the outbox.

use fieldseal_crypto::sha256;
use prost::Message as _;

use crate::error::JournalError;
use crate::record::{DetailHead, Encoded, Outcome, Record, RecordItem, SALT_BYTES, fill_salts};
use crate::wire;

/// A change's event in the outbox.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Waiting {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) public: Vec<u8>,
    #[prost(string, tag = "2")]
    pub(super) ticket: String,
    #[prost(bytes = "vec", tag = "3")]
    pub(super) partition: Vec<u8>,
    #[prost(uint64, tag = "4")]
    pub(crate) revision: u64,
}

impl Waiting {
    /// Makes the record. Its one item carries the partition's token.
    pub(crate) fn into_record(self) -> Result<Encoded, JournalError> {
        let mut salts = [0; 2 * SALT_BYTES];
        fill_salts(&mut salts)?;
        let (salt, item_salt) =
            salts.split_first_chunk::<SALT_BYTES>().ok_or(JournalError::Inconsistent)?;
        let mut head = DetailHead { ticket: self.ticket, ..DetailHead::default() };
        let mut items = Vec::new();
        if !self.partition.is_empty() {
            let item = RecordItem {
                partition: self.partition,
                outcome: Outcome::Ok.code(),
                ..Default::default()
            }
            .encode_to_vec();
            head.items_root = sha256(&[&[0], item_salt, &item]).to_vec();
            head.item_count = 1;
            items.extend_from_slice(item_salt);
            wire::varint(&mut items, item.len() as u64);
            items.extend_from_slice(&item);
        }
        let anchor = Record::decode(self.public.as_slice()).ok();
        let anchor = anchor.and_then(|record| record.anchor.try_into().ok());
        let anchor = anchor.ok_or(JournalError::Inconsistent)?;
        let record = Encoded::new(self.public, salt, &head.encode_to_vec(), items, self.revision);
        Ok(Encoded { anchor, ..record })
    }
}
