//! PEFT adapters: of every kind, and with every key of their config.
