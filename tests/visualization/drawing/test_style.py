"""The look that all figures share."""

from visualization.drawing.style import line_look, short_number


def test_many_trials_look_different():
    looks = [tuple(line_look(index).values()) for index in range(28)]
    assert len(set(looks)) == 28


def test_short_numbers():
    numbers = [0, 512, 1000, 1500, 250_000, 2_000_000, 10**9, 2.5e9]
    assert [short_number(number) for number in numbers] == ["0", "512", "1K", "1.5K", "250K", "2M", "1B", "2.5B"]
