"""Packs: one ZIP file with sounds, manifest, licences and instruments that a music program opens."""
