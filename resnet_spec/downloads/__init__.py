"""Published weights as files: found in caches or a folder, downloaded, and verified by their hashes."""
