//! COPY decoding and formatting.
