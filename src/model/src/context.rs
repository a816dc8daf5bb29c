//! What a value is bound to.

use crate::malformed::{Malformed, MalformedReason};
use crate::name::{Column, KeyName, PairName, PairValue, Partition, Table};
use crate::row::Row;

/// Most extra pairs in a context.
pub const MAX_EXTRA_PAIRS: usize = 16;
/// Most bytes in a whole context: table, column, row, partition and all extra pairs together.
pub const MAX_CONTEXT_BYTES: usize = 4096;

/// Extra context pairs, sorted bytewise by name, no name twice, at most [`MAX_EXTRA_PAIRS`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct ExtraContext(Vec<(PairName, PairValue)>);

impl ExtraContext {
    /// Parses, sorts and checks the pairs.
    ///
    /// # Errors
    /// `EXTRA_CONTEXT_TOO_MANY`, `EXTRA_CONTEXT_DUPLICATE`, `EXTRA_CONTEXT_INVALID`.
    pub fn parse<'a>(
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, Malformed> {
        let mut parsed = Vec::new();
        for (name, value) in pairs {
            if parsed.len() == MAX_EXTRA_PAIRS {
                return Err(Malformed::new(
                    MalformedReason::ExtraContextTooMany,
                    format!("at most {MAX_EXTRA_PAIRS} extra context pairs are allowed"),
                ));
            }
            parsed.push((PairName::parse(name)?, PairValue::parse(value)?));
        }
        parsed.sort_by(|a, b| a.0.as_str().as_bytes().cmp(b.0.as_str().as_bytes()));
        let twice = parsed.windows(2).any(|w| matches!(w, [a, b] if a.0 == b.0));
        if twice {
            return Err(Malformed::new(
                MalformedReason::ExtraContextDuplicate,
                "an extra context pair's name must not occur twice",
            ));
        }
        Ok(Self(parsed))
    }

    /// The pairs in the order in which they are authenticated.
    #[must_use]
    pub fn pairs(&self) -> &[(PairName, PairValue)] {
        &self.0
    }

    fn byte_len(&self) -> usize {
        self.0.iter().map(|(n, v)| n.as_str().len() + v.as_str().len()).sum()
    }
}

/// What changes per column: given once in a batch.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Field {
    /// The key that seals this column.
    pub key: KeyName,
    /// The table.
    pub table: Table,
    /// The column.
    pub column: Column,
    /// Further pairs.
    pub extra: ExtraContext,
}

impl Field {
    /// Bytes that this part takes of [`MAX_CONTEXT_BYTES`].
    #[must_use]
    pub fn context_bytes(&self) -> usize {
        self.table.as_str().len() + self.column.as_str().len() + self.extra.byte_len()
    }
}

/// A whole context: the field, the partition and the row, within [`MAX_CONTEXT_BYTES`].
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    field: &'a Field,
    partition: &'a Partition,
    row: &'a Row,
}

impl<'a> Context<'a> {
    /// Puts the parts together.
    ///
    /// # Errors
    /// `CONTEXT_TOO_LONG` if together they pass [`MAX_CONTEXT_BYTES`].
    pub fn new(
        field: &'a Field,
        partition: &'a Partition,
        row: &'a Row,
    ) -> Result<Self, Malformed> {
        let bytes = field.context_bytes() + partition.as_str().len() + row.as_str().len();
        if bytes > MAX_CONTEXT_BYTES {
            return Err(Malformed::new(
                MalformedReason::ContextTooLong,
                format!(
                    "the context has {bytes} bytes, and at most {MAX_CONTEXT_BYTES} are allowed"
                ),
            ));
        }
        Ok(Self { field, partition, row })
    }

    /// The field.
    #[must_use]
    pub const fn field(&self) -> &'a Field {
        self.field
    }

    /// The partition.
    #[must_use]
    pub const fn partition(&self) -> &'a Partition {
        self.partition
    }

    /// The row.
    #[must_use]
    pub const fn row(&self) -> &'a Row {
        self.row
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_sorted_and_unique() -> Result<(), Malformed> {
        let extra = ExtraContext::parse([("b", "1"), ("a", "2"), ("ä", "3")])?;
        let names: Vec<_> = extra.pairs().iter().map(|(n, _)| n.as_str()).collect();
        assert_eq!(names, ["a", "b", "ä"]);
        let twice = ExtraContext::parse([("a", "1"), ("b", "2"), ("a", "3")]);
        let reason = twice.err().map(|e| e.reason());
        assert_eq!(reason, Some(MalformedReason::ExtraContextDuplicate));
        let names: Vec<String> = (0..17).map(|i| format!("n{i}")).collect();
        let many = ExtraContext::parse(names.iter().map(|n| (n.as_str(), "")));
        assert_eq!(many.err().map(|e| e.reason()), Some(MalformedReason::ExtraContextTooMany));
        Ok(())
    }

    #[test]
    fn the_whole_context_has_a_limit() -> Result<(), Malformed> {
        let value = "v".repeat(1024);
        let extra = ExtraContext::parse(
            [("a", &value), ("b", &value), ("c", &value), ("d", &value)]
                .map(|(n, v)| (n, v.as_str())),
        )?;
        let field = Field {
            key: KeyName::parse("k")?,
            table: Table::parse("t")?,
            column: Column::parse("c")?,
            extra,
        };
        let result = Context::new(&field, &Partition::default(), &Row::default()).map(|_| ());
        assert_eq!(result.map_err(|e| e.reason()), Err(MalformedReason::ContextTooLong));
        Ok(())
    }
}
