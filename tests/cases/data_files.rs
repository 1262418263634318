//! Data files: endings, compression, types of columns.
