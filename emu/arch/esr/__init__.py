"""Exception syndromes: classes, status codes, ISS layouts; built, decoded, explained."""
