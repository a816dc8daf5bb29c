//! What a query asks for, in the words of an index. It may let through too much, never too little.

use fieldseal_model::Action;

use super::bits::Bits;
use super::record::{Shape, Text, erased_term, text_term, token_term};
use super::{Source, TIMED};
use crate::query::Query;
use crate::record::Outcome;

/// The records that could be looked for; `None` if the index cannot be read.
pub(super) fn select(query: &Query, source: &dyn Source) -> Option<Bits> {
    let records = source.records();
    let mut bits = Bits::all(records);
    out_of_time(query, source, &mut bits);
    for terms in terms(query) {
        if bits.is_empty() {
            return Some(bits);
        }
        let mut any = Bits::none(records);
        terms.iter().try_for_each(|term| source.mark_term(*term, &mut any))?;
        bits.and(&any);
    }
    let wanted: Vec<bool> = source.shapes().iter().map(|shape| fits(query, shape)).collect();
    if !bits.is_empty() && wanted.contains(&false) {
        let mut any = Bits::none(records);
        source.mark_shapes(&wanted, &mut any)?;
        bits.and(&any);
    }
    Some(bits)
}

fn out_of_time(query: &Query, source: &dyn Source, bits: &mut Bits) {
    let (start, end) = (query.start.map(|t| t.unix_nanos()), query.end.map(|t| t.unix_nanos()));
    if start.is_none() && end.is_none() {
        return;
    }
    for (times, from) in source.times().chunks_exact(2).zip((0..).step_by(TIMED)) {
        let [earliest, latest] = times else { continue };
        let meets =
            start.is_none_or(|start| *latest >= start) && end.is_none_or(|end| *earliest < end);
        if !meets {
            bits.clear(from, from + TIMED);
        }
    }
}

/// The terms that a record must have: of each list at least one.
fn terms(query: &Query) -> Vec<Vec<u32>> {
    if query.erased_only {
        return vec![vec![erased_term()]];
    }
    let mut all = Vec::new();
    all.extend(query.row.and_then(|row| token_term(&row)).map(|term| vec![term]));
    all.extend(query.end_user.and_then(|user| token_term(&user)).map(|term| vec![term]));
    let partition = query.partition.flatten();
    all.extend(partition.and_then(|token| token_term(&token)).map(|term| vec![term]));
    for (what, wanted) in [(Text::Purpose, &query.purposes), (Text::Ticket, &query.tickets)] {
        // What was not stated has no term.
        if !wanted.is_empty() && wanted.iter().all(|text| !text.is_empty()) {
            all.push(wanted.iter().map(|text| text_term(what, text.as_bytes())).collect());
        }
    }
    all
}

/// Whether a record of this shape could be looked for.
fn fits(query: &Query, shape: &Shape) -> bool {
    // A filter that is not among these lets every shape through.
    let Query { principals, actions, keys, table, column, outcomes, .. } = query;
    let record = &shape.record;
    let action = u8::try_from(record.action).ok().and_then(Action::from_code);
    if !(actions.is_empty() || action.is_some_and(|action| actions.contains(&action)))
        || !(principals.is_empty() || principals.contains(&record.principal))
    {
        return false;
    }
    if query.erased_only {
        // Of what was erased a shape knows nothing.
        return true;
    }
    let is_wanted = |code| Outcome::from_code(code).is_some_and(|o| outcomes.contains(&o));
    let ended = outcomes.is_empty() || is_wanted(record.outcome);
    let any_item = keys.is_empty() && table.is_none() && column.is_none();
    if ended && any_item {
        return true;
    }
    shape.items.iter().any(|(verdict, outcome)| {
        let outcome = if *outcome == 0 { record.outcome } else { *outcome };
        let of = record.verdicts.get(*verdict as usize).cloned().unwrap_or_default();
        (ended || is_wanted(outcome))
            && (keys.is_empty() || keys.contains(&of.key))
            && table.as_ref().is_none_or(|table| *table == of.table)
            && column.as_ref().is_none_or(|column| *column == of.column)
    })
}
