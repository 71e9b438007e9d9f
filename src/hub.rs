//! Model name or folder to local files.
