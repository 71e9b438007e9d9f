//! Text to token ids and back, and messages to prompts. Knows nothing of models or MLX.
