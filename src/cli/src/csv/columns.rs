//! From header names to places in a record.

use super::records::Record;
use crate::arguments::CsvArguments;
use crate::failure::{Exit, Failure};

/// Where in each record stands what.
pub(crate) struct Columns {
    /// How many fields a record has.
    pub(crate) width: usize,
    /// The columns to encrypt or decrypt, as places in a record, in the order of the arguments.
    pub(crate) values: Vec<usize>,
    /// The column that names the row.
    pub(crate) row: Option<usize>,
    /// The column that names the partition.
    pub(crate) partition: Option<usize>,
}

impl Columns {
    /// Finds the named columns in the header.
    pub(crate) fn find(header: &Record, arguments: &CsvArguments) -> Result<Self, Failure> {
        let names = names(header)?;
        let place = |name: &String| {
            let mut found = names.iter().enumerate().filter(|(_, n)| *n == name);
            match (found.next(), found.next()) {
                (Some((place, _)), None) => Ok(place),
                (None, _) => Err(missing(name, &names)),
                (Some(_), Some(_)) => Err(Failure::usage(
                    "COLUMN_AMBIGUOUS",
                    format!("the header has more than one column {name:?}"),
                )),
            }
        };
        let values: Vec<usize> = arguments.column.iter().map(place).collect::<Result<_, _>>()?;
        let row = arguments.row_column.as_ref().map(place).transpose()?;
        let partition = arguments.partition_column.as_ref().map(place).transpose()?;
        for (index, value) in values.iter().enumerate() {
            if values.iter().take(index).any(|earlier| earlier == value) {
                return Err(Failure::usage("COLUMN_TWICE", "a column is named twice"));
            }
            if Some(*value) == row || Some(*value) == partition {
                return Err(Failure::usage(
                    "COLUMN_BOUND_TO_ITSELF",
                    "the row or partition column must stay readable and cannot be encrypted too",
                ));
            }
        }
        Ok(Self { width: names.len(), values, row, partition })
    }
}

fn names(header: &Record) -> Result<Vec<String>, Failure> {
    (0..header.len())
        .map(|index| {
            let value = header.value(index).unwrap_or_default();
            let name = std::str::from_utf8(&value)
                .map_err(|_| Failure::usage("HEADER_INVALID", "the header is not UTF-8"))?;
            Ok(name.to_owned())
        })
        .collect()
}

fn missing(name: &str, names: &[String]) -> Failure {
    let some: Vec<_> = names.iter().take(20).map(String::as_str).collect();
    Failure::new(Exit::Usage, "COLUMN_NOT_FOUND", format!("the header has no column {name:?}"))
        .advise(format!("its columns are {}", crate::output::visible(&some.join(", "))))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::arguments::{Arguments, Command, CsvCommand};
    use crate::csv::records::Reader;

    fn find(header: &str, more: &str) -> Result<Columns, &'static str> {
        let line = format!("fieldseal csv encrypt in out --key k --table t {more}");
        let arguments = Arguments::try_parse_from(line.split(' ')).unwrap();
        let Command::Csv(CsvCommand::Encrypt(csv)) = arguments.command else { panic!() };
        let mut record = Record::default();
        Reader::new(header.as_bytes(), b',').read(&mut record).unwrap();
        Columns::find(&record, &csv).map_err(|failure| match failure.reason() {
            "COLUMN_NOT_FOUND" => "missing",
            "COLUMN_AMBIGUOUS" => "ambiguous",
            "COLUMN_TWICE" => "twice",
            "COLUMN_BOUND_TO_ITSELF" => "itself",
            _ => "other",
        })
    }

    #[test]
    fn a_column_is_found_once_or_refused() {
        for (header, more, expected) in [
            ("id,email", "--column phone --row-column id", "missing"),
            ("id,email", "--column email --row-column nr", "missing"),
            ("id,email,email", "--column email --row-column id", "ambiguous"),
            ("id,email", "--column email --column email --row-column id", "twice"),
            ("id,email", "--column id --row-column id", "itself"),
            ("id,email", "--column email --any-row --partition-column email", "itself"),
        ] {
            assert_eq!(find(header, more).err(), Some(expected), "{header} {more}");
        }
        let found = find("\u{feff}id,\"email\",tenant", "--column email --row-column id").unwrap();
        assert_eq!((found.width, found.values, found.row), (3, vec![1], Some(0)));
    }
}
