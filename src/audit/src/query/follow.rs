//! Reading on from where one came to, as the log grows.

use super::search::Search;
use super::{PageLimit, Query, Reader};
use crate::error::{JournalError, QueryError};
use crate::query::Event;
use crate::segment::{self, At, Segment};

/// Whoever is further behind than so many records looks into the index first.
const FAR: u64 = 10_000;

/// A place in the log from which somebody reads on, the oldest record first. It remembers at which
/// byte it stands, so that reading on costs what is new and not what is there.
pub struct Follower {
    reader: Reader,
    query: Query,
    position: u64,
    place: Option<Place>,
    far: u64,
}

/// Where the frame of the next record begins, as far as it is known.
struct Place {
    segment: u64,
    offset: u64,
}

impl Follower {
    pub(crate) fn new(reader: Reader, query: Query, position: u64) -> Self {
        let query = Query { oldest_first: true, ..query };
        Self { reader, query, position, place: None, far: FAR }
    }

    /// One that wants every record: no index helps it.
    pub(crate) fn of_all(reader: Reader, position: u64) -> Self {
        Self { far: u64::MAX, ..Self::new(reader, Query::default(), position) }
    }

    /// The next record to look at: every one before it was, once.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// The next events that match, of the first `size` records of the log. There may be none
    /// although there are records to look at: [`Follower::position`] says how far it came. Blocks.
    ///
    /// # Errors
    /// `Unreadable` if a file cannot be read, or a record is damaged or missing that the log is
    /// known to have. The position stays where it was.
    pub fn read(&mut self, limit: PageLimit, size: u64) -> Result<Vec<Event>, QueryError> {
        self.position = self.position.max(self.reader.first()?);
        if self.position >= size {
            return Ok(Vec::new());
        }
        let limit = PageLimit { events: limit.events.max(1), ..limit };
        let mut search = Search::new(&self.query, limit, size, self.position);
        let place = if size - self.position > self.far {
            self.reader.run(&mut search, &mut |_, _, _| None).map(|()| None)
        } else {
            read_on(&self.reader, self.place.take(), &mut search).map(Some)
        };
        self.place = place.map_err(|error| QueryError::Unreadable(error.to_string().into()))?;
        self.position = search.position;
        Ok(search.events)
    }
}

/// Reads frame after frame, from a place where one was before; where the next one begins.
fn read_on(
    reader: &Reader,
    mut known: Option<Place>,
    search: &mut Search<'_>,
) -> Result<Place, JournalError> {
    loop {
        // Until the place that is found was read.
        let _reading = reader.files.read();
        let (before, is_found) = (search.position, known.is_none());
        let place = match known.take() {
            Some(place) => place,
            None => find(reader, before)?,
        };
        let came = frames(reader, place, search);
        // Otherwise a segment ends here, or it was written anew since one was there: the place is
        // looked for again.
        match came {
            Ok(place) if search.is_over() => return Ok(place),
            Ok(_) if is_found && search.position == before => {
                let what = "a frame is gone";
                return Err(JournalError::corrupt(&reader.directory, 0, what));
            }
            Err(error) if is_found && search.position == before => return Err(error),
            Ok(_) | Err(_) => {}
        }
    }
}

/// Where the frame of a record begins.
fn find(reader: &Reader, position: u64) -> Result<Place, JournalError> {
    let mut segments = segment::list(&reader.directory)?;
    segments.retain(|(first, _)| *first <= position);
    let gone = || JournalError::corrupt(&reader.directory, 0, "a segment is missing");
    let (first, path) = segments.last().ok_or_else(gone)?;
    let segment = Segment::open(path, &reader.key)?;
    let (mut offset, mut next) = (segment.start, *first);
    while next < position {
        let damaged = || JournalError::corrupt(path, offset, "a frame is damaged");
        let (head, after) = segment.skip(offset)?.ok_or_else(damaged)?;
        let end = next.saturating_add(head.count.into());
        if head.first != next || end == next {
            return Err(damaged());
        }
        if end > position {
            break;
        }
        (offset, next) = (after, end);
    }
    Ok(Place { segment: *first, offset })
}

/// Goes through the frames of one segment, up to its end or until the search is over.
fn frames(reader: &Reader, place: Place, search: &mut Search<'_>) -> Result<Place, JournalError> {
    let Place { segment: first, mut offset } = place;
    let path = reader.directory.join(segment::file_name(first));
    let segment = Segment::open(&path, &reader.key)?;
    while !search.is_over() {
        let frame = match segment.at(offset)? {
            At::Frame(frame) => frame,
            At::Nothing => break,
            At::Bad(what) => return Err(JournalError::corrupt(&path, offset, what)),
        };
        search.frame(&segment, &frame)?;
        // A page may end within a frame.
        if search.position < frame.head.first.saturating_add(frame.head.count.into()) {
            break;
        }
        offset = frame.end;
    }
    Ok(Place { segment: first, offset })
}
