"""Common parts of flavors with a quorum: members with fixed addresses and volumes, and their boot scripts."""
