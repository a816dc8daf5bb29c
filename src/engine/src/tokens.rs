//! Row and partition tokens of a call: what stands in the log in place of their names.

use std::collections::HashMap;

use fieldseal_crypto::token::RowTokens;
use fieldseal_model::{Field, Partition, Row};

use crate::engine::Engine;

/// Row and partition tokens of a call; partitions repeat, so they are remembered.
pub(crate) struct Tokens<'a> {
    engine: &'a Engine,
    rows: Vec<RowTokens>,
    partitions: HashMap<&'a str, [u8; 16]>,
    last: Option<(&'a str, [u8; 16])>,
}

impl<'a> Tokens<'a> {
    pub(crate) fn new(engine: &'a Engine, fields: &[Field]) -> Self {
        let key = engine.inner.keys.tokens();
        let rows = fields.iter().map(|f| RowTokens::new(key, &f.table)).collect();
        Self { engine, rows, partitions: HashMap::new(), last: None }
    }

    /// The tokens of an item's partition and row, if it states them.
    pub(crate) fn of(
        &mut self,
        field: usize,
        input: Option<(&'a Partition, &Row)>,
    ) -> (Option<[u8; 16]>, Option<[u8; 16]>) {
        let Some((partition, row)) = input else { return (None, None) };
        let row = match self.rows.get(field) {
            Some(tokens) if !row.is_empty() => Some(tokens.token(row)),
            _ => None,
        };
        (self.partition(partition), row)
    }

    fn partition(&mut self, partition: &'a Partition) -> Option<[u8; 16]> {
        let name = partition.as_str();
        if name.is_empty() {
            return None;
        }
        if let Some((last, token)) = self.last
            && last == name
        {
            return Some(token);
        }
        let keys = &self.engine.inner.keys;
        let token =
            *self.partitions.entry(name).or_insert_with(|| keys.tokens().partition(partition));
        self.last = Some((name, token));
        Some(token)
    }
}
