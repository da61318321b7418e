//! COPY TO STDOUT.

use crate::copy::format::Writer;
use crate::copy::is_binary;
use crate::encode::value::Style;
use crate::protocol::Output;
use crate::protocol::backend::Format;
use crate::session::portal::{Cursor, RowWriter, fields};
use crate::session::{Fault, Session};
use crate::statement::{CopyOut, Executor, Tag};
use toroid_common::datum::DatumRef;
use toroid_common::types::ColumnType;

impl<E: Executor> Session<E> {
    pub(super) async fn copy_out(&mut self, copy: CopyOut) -> Result<(), Fault> {
        let format = if is_binary(&copy.options) { Format::Binary } else { Format::Text };
        self.wire.output.copy_response(b'H', format, copy.columns.len());
        let types: Vec<ColumnType> = copy.columns.iter().map(|column| column.ty).collect();
        let mut writer = Writer::new(&copy.options);
        writer.begin(&mut self.wire.output, &copy.columns);
        let mut cursor = Cursor::new(copy.rows, fields(&copy.columns, &[]));
        loop {
            let mut rows = CopyRows { writer: &mut writer, types: &types, style: Style::of(&self.state) };
            cursor.each(&mut self.wire.output, u64::MAX, &mut rows)?;
            drop(rows);
            self.wire.flush_if_big().await?;
            if !cursor.more(&mut self.wire, self.deadline).await? {
                break;
            }
        }
        writer.end(&mut self.wire.output);
        self.send_notices();
        self.wire.output.copy_done();
        self.complete(Tag::Counted("COPY"), cursor.sent).await
    }
}

struct CopyRows<'a, 'o> {
    writer: &'a mut Writer<'o>,
    types: &'a [ColumnType],
    style: Style<'a>,
}

impl RowWriter for CopyRows<'_, '_> {
    fn row<'v>(&mut self, output: &mut Output, values: impl Iterator<Item = DatumRef<'v>>) {
        self.writer.row(output, self.types, values, &self.style);
    }
}
