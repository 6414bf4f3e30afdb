//! What is said to clients of PostgreSQL: backend messages of protocol 3, written into a buffer.

use bytes::{BufMut, BytesMut};

use super::sqlstate::Report;
use super::types::PgType;

/// A column of an answer, as a client is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Described {
    pub(super) name: String,
    pub(super) kind: PgType,
}

/// How the connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    /// No transaction.
    Idle,
    /// In a transaction, which means nothing here.
    Transaction,
    /// In a transaction that an error has ended.
    Failed,
}

/// Writes a message of one type; its length is put in its place afterwards.
fn message(out: &mut BytesMut, kind: u8, write: impl FnOnce(&mut BytesMut)) {
    out.put_u8(kind);
    let start = out.len();
    out.put_i32(0);
    write(out);
    // An answer's row is bounded by what a function may make, far below this.
    let length = i32::try_from(out.len() - start).unwrap_or(i32::MAX);
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// Text and a zero byte; a zero byte within it would end it too early.
fn text(out: &mut BytesMut, text: &str) {
    for part in text.split('\0') {
        out.put_slice(part.as_bytes());
    }
    out.put_u8(0);
}

fn authentication(out: &mut BytesMut, code: i32, data: &[u8]) {
    message(out, b'R', |out| {
        out.put_i32(code);
        out.put_slice(data);
    });
}

pub(super) fn authentication_ok(out: &mut BytesMut) {
    authentication(out, 0, &[]);
}

/// Asks for SASL with one mechanism.
pub(super) fn authentication_sasl(out: &mut BytesMut, mechanism: &str) {
    authentication(out, 10, format!("{mechanism}\0\0").as_bytes());
}

pub(super) fn authentication_continue(out: &mut BytesMut, data: &str) {
    authentication(out, 11, data.as_bytes());
}

pub(super) fn authentication_final(out: &mut BytesMut, data: &str) {
    authentication(out, 12, data.as_bytes());
}

pub(super) fn parameter(out: &mut BytesMut, name: &str, value: &str) {
    message(out, b'S', |out| {
        text(out, name);
        text(out, value);
    });
}

pub(super) fn key(out: &mut BytesMut, id: u32, secret: u32) {
    message(out, b'K', |out| {
        out.put_u32(id);
        out.put_u32(secret);
    });
}

/// The newest minor version that is spoken, and the options that are not known.
pub(super) fn negotiate(out: &mut BytesMut, minor: u16, options: &[&str]) {
    message(out, b'v', |out| {
        out.put_i32(i32::from(minor));
        out.put_i32(i32::try_from(options.len()).unwrap_or(i32::MAX));
        for option in options {
            text(out, option);
        }
    });
}

pub(super) fn ready(out: &mut BytesMut, status: Status) {
    message(out, b'Z', |out| {
        out.put_u8(match status {
            Status::Idle => b'I',
            Status::Transaction => b'T',
            Status::Failed => b'E',
        });
    });
}

/// An error (`E`) or a notice (`N`).
fn report(out: &mut BytesMut, kind: u8, report: &Report) {
    message(out, kind, |out| {
        let position = report.position.map(|position| position.to_string());
        let fields = [
            (b'S', Some(report.severity)),
            (b'V', Some(report.severity)),
            (b'C', Some(report.code)),
            (b'M', Some(report.message.as_str())),
            (b'H', report.hint.as_deref()),
            (b'P', position.as_deref()),
        ];
        for (field, value) in fields {
            if let Some(value) = value {
                out.put_u8(field);
                text(out, value);
            }
        }
        out.put_u8(0);
    });
}

pub(super) fn error(out: &mut BytesMut, what: &Report) {
    report(out, b'E', what);
}

pub(super) fn notice(out: &mut BytesMut, what: &Report) {
    report(out, b'N', what);
}

pub(super) fn complete(out: &mut BytesMut, tag: &str) {
    message(out, b'C', |out| text(out, tag));
}

/// A message without content.
fn bare(out: &mut BytesMut, kind: u8) {
    message(out, kind, |_| {});
}

pub(super) fn empty_query(out: &mut BytesMut) {
    bare(out, b'I');
}

pub(super) fn parsed(out: &mut BytesMut) {
    bare(out, b'1');
}

pub(super) fn bound(out: &mut BytesMut) {
    bare(out, b'2');
}

pub(super) fn closed(out: &mut BytesMut) {
    bare(out, b'3');
}

pub(super) fn no_data(out: &mut BytesMut) {
    bare(out, b'n');
}

pub(super) fn suspended(out: &mut BytesMut) {
    bare(out, b's');
}

pub(super) fn parameters(out: &mut BytesMut, types: &[u32]) {
    message(out, b't', |out| {
        out.put_u16(u16::try_from(types.len()).unwrap_or(u16::MAX));
        types.iter().for_each(|oid| out.put_u32(*oid));
    });
}

/// The columns of an answer; `formats` as [`format_of`] reads them.
pub(super) fn columns(out: &mut BytesMut, columns: &[Described], formats: &[i16]) {
    message(out, b'T', |out| {
        out.put_u16(u16::try_from(columns.len()).unwrap_or(u16::MAX));
        for (index, column) in columns.iter().enumerate() {
            text(out, &column.name);
            // Of no table that a client could look up by its number.
            out.put_u32(0);
            out.put_i16(0);
            out.put_u32(column.kind.oid);
            out.put_i16(column.kind.bytes);
            out.put_i32(-1);
            out.put_i16(format_of(formats, index));
        }
    });
}

/// The format of a column or parameter: none given is text, one is that of all.
pub(super) fn format_of(formats: &[i16], index: usize) -> i16 {
    match formats {
        [] => 0,
        [one] => *one,
        each => each.get(index).copied().unwrap_or(0),
    }
}

/// One row; `write` writes each value with its length.
pub(super) fn row(out: &mut BytesMut, columns: usize, write: impl FnOnce(&mut BytesMut)) {
    message(out, b'D', |out| {
        out.put_u16(u16::try_from(columns).unwrap_or(u16::MAX));
        write(out);
    });
}

/// A row of text, for what the door answers by itself.
pub(super) fn texts(out: &mut BytesMut, values: &[&str]) {
    row(out, values.len(), |out| {
        for value in values {
            out.put_i32(i32::try_from(value.len()).unwrap_or(i32::MAX));
            out.put_slice(value.as_bytes());
        }
    });
}
