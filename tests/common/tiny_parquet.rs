//! Small Parquet files.

use std::sync::Arc;

use parquet::basic::Compression;
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

/// The values of a leaf column; levels of definition and repetition where the schema wants them.
pub enum Column<'a> {
    Texts(&'a [&'a str]),
    Bytes(&'a [&'a [u8]]),
    Longs(&'a [i64]),
    Doubles(&'a [f64]),
    Flags(&'a [bool]),
    LongsAt(&'a [i64], &'a [i16], &'a [i16]),
    TextsAt(&'a [&'a str], &'a [i16], &'a [i16]),
}

/// A file of one group of rows.
pub fn parquet(schema: &str, compression: Compression, columns: &[Column]) -> Vec<u8> {
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = Arc::new(WriterProperties::builder().set_compression(compression).build());
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, properties).unwrap();
    let mut group = writer.next_row_group().unwrap();
    for values in columns {
        let mut column = group.next_column().unwrap().unwrap();
        let texts =
            |texts: &[&str]| texts.iter().map(|&text| ByteArray::from(text)).collect::<Vec<_>>();
        let bytes = |bytes: &[&[u8]]| {
            bytes.iter().map(|&bytes| ByteArray::from(bytes.to_vec())).collect::<Vec<_>>()
        };
        match (column.untyped(), values) {
            (ColumnWriter::ByteArrayColumnWriter(to), Column::Texts(values)) => {
                to.write_batch(&texts(values), None, None)
            }
            (ColumnWriter::ByteArrayColumnWriter(to), Column::Bytes(values)) => {
                to.write_batch(&bytes(values), None, None)
            }
            (ColumnWriter::Int64ColumnWriter(to), Column::Longs(values)) => {
                to.write_batch(values, None, None)
            }
            (ColumnWriter::DoubleColumnWriter(to), Column::Doubles(values)) => {
                to.write_batch(values, None, None)
            }
            (ColumnWriter::BoolColumnWriter(to), Column::Flags(values)) => {
                to.write_batch(values, None, None)
            }
            (ColumnWriter::Int64ColumnWriter(to), Column::LongsAt(values, defined, repeated)) => {
                to.write_batch(values, Some(defined), Some(repeated))
            }
            (
                ColumnWriter::ByteArrayColumnWriter(to),
                Column::TextsAt(values, defined, repeated),
            ) => to.write_batch(&texts(values), Some(defined), Some(repeated)),
            _ => panic!("a column of another type"),
        }
        .unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
    bytes
}
