"""What the control plane and the training plane share: file formats, paths, identities, errors.

Standard library only. Every format carries a version; readers accept all older versions.
"""
