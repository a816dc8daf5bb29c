//! `Debug` of the messages that hold what must not be shown: it says how many bytes there are.

use std::fmt::{Debug, Formatter, Result};

use crate::v1;

/// Shows a length instead of a content.
struct Hidden(usize);

impl Debug for Hidden {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "[{} bytes hidden]", self.0)
    }
}

impl Debug for v1::value::Kind {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::BytesValue(value) => {
                f.debug_tuple("BytesValue").field(&Hidden(value.len())).finish()
            }
            Self::StringValue(value) => {
                f.debug_tuple("StringValue").field(&Hidden(value.len())).finish()
            }
        }
    }
}

impl Debug for v1::Value {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("Value").field("kind", &self.kind).finish()
    }
}

impl Debug for v1::ContextPair {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("ContextPair")
            .field("name", &self.name)
            .field("value", &Hidden(self.value.len()))
            .finish()
    }
}

impl Debug for v1::AccessReason {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("AccessReason")
            .field("purpose", &self.purpose)
            .field("ticket", &self.ticket)
            .field("end_user_assertion", &Hidden(self.end_user_assertion.len()))
            .field("end_user_query_hash", &Hidden(self.end_user_query_hash.len()))
            .finish()
    }
}

impl Debug for v1::EncryptRequest {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("EncryptRequest")
            .field("field", &self.field)
            .field("partition", &Hidden(self.partition.len()))
            .field("row", &Hidden(self.row.len()))
            .field("plaintext", &self.plaintext)
            .field("allow_sealed_plaintext", &self.allow_sealed_plaintext)
            .field("reason", &self.reason)
            .finish()
    }
}

impl Debug for v1::EncryptItem {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("EncryptItem")
            .field("field_index", &self.field_index)
            .field("partition", &Hidden(self.partition.len()))
            .field("row", &Hidden(self.row.len()))
            .field("plaintext", &self.plaintext)
            .field("allow_sealed_plaintext", &self.allow_sealed_plaintext)
            .finish()
    }
}

impl Debug for v1::DecryptRequest {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("DecryptRequest")
            .field("field", &self.field)
            .field("partition", &Hidden(self.partition.len()))
            .field("row", &Hidden(self.row.len()))
            .field("ciphertext", &Hidden(self.ciphertext.len()))
            .field("reason", &self.reason)
            .finish()
    }
}

impl Debug for v1::DecryptItem {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("DecryptItem")
            .field("field_index", &self.field_index)
            .field("partition", &Hidden(self.partition.len()))
            .field("row", &Hidden(self.row.len()))
            .field("ciphertext", &Hidden(self.ciphertext.len()))
            .finish()
    }
}

impl Debug for v1::AuditEventQuery {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("AuditEventQuery")
            .field("start_time", &self.start_time)
            .field("end_time", &self.end_time)
            .field("principals", &self.principals)
            .field("actions", &self.actions)
            .field("keys", &self.keys)
            .field("table", &self.table)
            .field("column", &self.column)
            .field("partition", &self.partition.as_ref().map(|text| Hidden(text.len())))
            .field("row", &self.row.as_ref().map(|text| Hidden(text.len())))
            .field("outcomes", &self.outcomes)
            .field("purposes", &self.purposes)
            .field("tickets", &self.tickets)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use prost::Message as _;

    use crate::v1::{self, value::Kind};

    const SECRET: &str = "swordfish";

    fn shows_nothing(message: &impl std::fmt::Debug) {
        for shown in [format!("{message:?}"), format!("{message:#?}")] {
            assert!(!shown.contains(SECRET), "{shown}");
            // Bytes as a list of numbers, or as an escaped string.
            assert!(!shown.contains("115, 119, 111"), "{shown}");
            assert!(shown.contains("9 bytes hidden"), "{shown}");
        }
    }

    #[test]
    fn no_message_shows_what_it_hides() {
        let text = v1::Value { kind: Some(Kind::StringValue(SECRET.into())) };
        let bytes =
            v1::Value { kind: Some(Kind::BytesValue(Bytes::from_static(SECRET.as_bytes()))) };
        let (partition, row) = (SECRET.to_owned(), SECRET.to_owned());
        let ciphertext = Bytes::from_static(SECRET.as_bytes());
        let pair = v1::ContextPair { name: "n".into(), value: SECRET.into() };
        let field = v1::Field { extra_context: vec![pair], ..Default::default() };
        let item = v1::EncryptItem {
            partition: partition.clone(),
            row: row.clone(),
            plaintext: Some(text.clone()),
            ..Default::default()
        };
        let sealed = v1::DecryptItem {
            partition: partition.clone(),
            row: row.clone(),
            ciphertext: ciphertext.clone(),
            ..Default::default()
        };
        shows_nothing(&v1::EncryptRequest {
            field: Some(field.clone()),
            partition: partition.clone(),
            row: row.clone(),
            plaintext: Some(text.clone()),
            ..Default::default()
        });
        shows_nothing(&v1::BatchEncryptRequest {
            fields: vec![field],
            items: vec![item],
            ..Default::default()
        });
        shows_nothing(&v1::DecryptRequest {
            partition: partition.clone(),
            row: row.clone(),
            ciphertext,
            reason: Some(v1::AccessReason {
                end_user_assertion: SECRET.into(),
                end_user_query_hash: SECRET.into(),
                ..Default::default()
            }),
            ..Default::default()
        });
        shows_nothing(&v1::BatchDecryptRequest { items: vec![sealed], ..Default::default() });
        shows_nothing(&v1::DecryptResponse { plaintext: Some(text), ..Default::default() });
        let ok = v1::DecryptedValue { plaintext: Some(bytes), ..Default::default() };
        let result = v1::DecryptResult { result: Some(v1::decrypt_result::Result::Ok(ok)) };
        shows_nothing(&v1::BatchDecryptResponse { results: vec![result], ..Default::default() });
        shows_nothing(&v1::AuditEventQuery {
            partition: Some(partition),
            row: Some(row),
            end_user_issuer: SECRET.into(),
            end_user_subject: SECRET.into(),
            ..Default::default()
        });
    }

    #[test]
    fn an_empty_value_is_a_value() {
        let empty = v1::Value { kind: Some(Kind::StringValue(String::new())) };
        let again = v1::Value::decode(empty.encode_to_vec().as_slice()).expect("decode");
        assert_eq!(again, empty);
        assert_ne!(again, v1::Value { kind: None });
    }

    #[test]
    fn the_descriptors_hold_every_service() {
        let set = prost_types::FileDescriptorSet::decode(crate::FILE_DESCRIPTOR_SET).expect("set");
        let mut services: Vec<_> =
            set.file.iter().flat_map(|file| &file.service).map(|s| s.name().to_owned()).collect();
        services.sort();
        let all = ["AuditService", "EncryptionService", "KeyService", "SystemService"];
        assert_eq!(services, all);
    }
}
