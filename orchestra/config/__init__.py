"""TOML presets to one frozen, validated config with a known origin for each value."""
