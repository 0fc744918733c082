"""Who needs which tokens of whom: the pieces cover each rank's window exactly, and come from who has them."""

from hypothesis import given
from hypothesis import strategies as st

from models.attention.sequence.stretches import Stretches, share_of

LENGTHS = st.lists(st.integers(0, 9), min_size=1, max_size=5).filter(any)


@given(lengths=LENGTHS, before=st.integers(0, 30), local_branch=st.integers(1, 12))
def test_every_token_of_a_window_comes_from_the_one_rank_that_has_it(lengths, before, local_branch):
    stretches = Stretches(0, before, tuple(lengths))
    for rank, length in enumerate(lengths):
        start, covered = stretches.start(rank), []
        for source, first, last, cached in stretches.window_of(rank, local_branch):
            covered += range(first, last)
            if cached:
                assert source == len(lengths) - 1 and last <= before
            else:
                assert source < rank
                assert stretches.start(source) <= first and last <= stretches.start(source) + lengths[source]
        needed = length or rank == len(lengths) - 1
        assert covered == (list(range(max(0, start - local_branch + 1), start)) if needed else [])


@given(lengths=LENGTHS, before=st.integers(0, 6), global_branch=st.integers(0, 9))
def test_first_tokens_are_those_that_this_forward_reads(lengths, before, global_branch):
    stretches = Stretches(0, before, tuple(lengths))
    pieces = stretches.first_tokens(global_branch)
    assert [position for piece in pieces for position in range(piece.first, piece.last)] == list(
        range(before, min(before + sum(lengths), global_branch))
    )
    assert not any(piece.cached for piece in pieces)


@given(ranks=st.integers(1, 7), tokens=st.integers(1, 50))
def test_shares_are_even_and_the_last_rank_has_a_token(ranks, tokens):
    shares = [share_of(rank, ranks, tokens) for rank in range(ranks)]
    assert [place for share in shares for place in range(share.start, share.stop)] == list(range(tokens))
    lengths = [share.stop - share.start for share in shares]
    assert lengths[-1] >= 1 and max(lengths) - min(lengths) <= 1
