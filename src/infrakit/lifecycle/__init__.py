"""Operations outside a leadership term: create a first machine, recover a lost quorum, tear a cluster down."""
