//! One column of one chunk: values in the layout of an Arrow array, which borrows them without copying.
