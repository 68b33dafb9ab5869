"""What the flavors of quorums share: members with fixed addresses and volumes, and the boot scripts of members."""
