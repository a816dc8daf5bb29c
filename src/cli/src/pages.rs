//! Pages of a list, one after another, each once.

use std::collections::HashSet;

use crate::failure::{Exit, Failure};

/// Which pages were asked for. A server that gives a token twice would be asked for ever.
#[derive(Default)]
pub(crate) struct Pages {
    seen: HashSet<String>,
}

impl Pages {
    /// The token to ask with next, or nothing after the last page.
    pub(crate) fn next(&mut self, token: String) -> Result<Option<String>, Failure> {
        if token.is_empty() {
            return Ok(None);
        }
        if !self.seen.insert(token.clone()) {
            let what = "the sidecar gave the same page twice";
            return Err(Failure::new(Exit::Internal, "PAGE_REPEATED", what)
                .advise("is the endpoint a Fieldseal of this version?"));
        }
        Ok(Some(token))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_asked_for_once() {
        let mut pages = Pages::default();
        let mut next = |token: &str| {
            pages.next(token.to_owned()).map_err(|failure| failure.reason().to_owned())
        };
        assert_eq!(next("a"), Ok(Some("a".to_owned())));
        assert_eq!(next("b"), Ok(Some("b".to_owned())));
        assert_eq!(next("a"), Err("PAGE_REPEATED".to_owned()));
        assert_eq!(next(""), Ok(None));
    }
}
