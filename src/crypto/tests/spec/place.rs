//! Where a test's value belongs, and sealing and opening it there.

use fieldseal_crypto::field::{FieldKey, Header, OVERHEAD_BYTES, decode_text};
use fieldseal_crypto::{ContentType, DataKey};
use fieldseal_model::{Column, ExtraContext, Field, KeyId, KeyName, Partition, Row, Table};

/// A data key and a context, in plain types that a test can change.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) data_key: [u8; 32],
    pub(crate) key_id: [u8; 8],
    pub(crate) key: String,
    pub(crate) partition: String,
    pub(crate) table: String,
    pub(crate) column: String,
    pub(crate) extra: Vec<(String, String)>,
    pub(crate) row: String,
}

impl Place {
    pub(crate) fn example() -> Self {
        Self {
            data_key: [7; 32],
            key_id: [1, 2, 3, 4, 5, 6, 7, 8],
            key: "customer-pii".to_owned(),
            partition: "acme".to_owned(),
            table: "customers".to_owned(),
            column: "email".to_owned(),
            extra: vec![("region".to_owned(), "eu".to_owned())],
            row: "42".to_owned(),
        }
    }

    pub(crate) fn seal(&self, salt: &[u8; 16], content: ContentType, value: &[u8]) -> Vec<u8> {
        let mut out = b"before".to_vec();
        self.with(self.key_id, |key, row| key.seal(row, salt, content, value, &mut out));
        assert_eq!(out[..6], *b"before", "what was there stays");
        let ciphertext = out.split_off(6);
        assert_eq!(ciphertext.len(), OVERHEAD_BYTES + value.len());
        ciphertext
    }

    /// Opens like a reader that has only this data key: the key id is the ciphertext's.
    pub(crate) fn open(&self, ciphertext: &[u8]) -> Result<(ContentType, Vec<u8>), &'static str> {
        let binary = decode_text(ciphertext).map_err(|e| e.reason().as_str())?;
        let header = Header::parse(&binary).map_err(|e| e.reason().as_str())?;
        self.open_as(*header.key_id.as_bytes(), &binary)
    }

    /// Opens like a caller that found the data key under its own key id.
    pub(crate) fn open_here(&self, binary: &[u8]) -> Result<(ContentType, Vec<u8>), &'static str> {
        self.open_as(self.key_id, binary)
    }

    fn open_as(
        &self,
        key_id: [u8; 8],
        binary: &[u8],
    ) -> Result<(ContentType, Vec<u8>), &'static str> {
        let mut out = b"before".to_vec();
        let opened = self.with(key_id, |key, row| key.open(row, binary, &mut out));
        assert_eq!(out[..6], *b"before", "what was there stays");
        let value = out.split_off(6);
        match opened {
            Ok(content) => Ok((content, value)),
            Err(failure) => {
                assert!(value.is_empty(), "a failure gives nothing out");
                Err(failure.as_str())
            }
        }
    }

    fn with<T>(&self, key_id: [u8; 8], run: impl FnOnce(&FieldKey<'_>, &Row) -> T) -> T {
        let data_key = DataKey::from_bytes(&mut self.data_key.clone());
        let pairs = self.extra.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let field = Field {
            key: KeyName::parse(&self.key).unwrap(),
            table: Table::parse(&self.table).unwrap(),
            column: Column::parse(&self.column).unwrap(),
            extra: ExtraContext::parse(pairs).unwrap(),
        };
        let partition = Partition::parse(&self.partition).unwrap();
        let key = FieldKey::new(&data_key, KeyId::new(key_id), &field, &partition);
        run(&key, &Row::parse(self.row.as_str()).unwrap())
    }
}
