//! Runs that were moved, hub caches, recipes from other editors.
