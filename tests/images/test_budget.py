"""The budget of pixels: never exceeded, given back, and first come, first served."""

from __future__ import annotations

import threading
import time

import pytest

from seamline.images.budget import PixelBudget


def test_no_more_pixels_are_under_way_than_the_budget_has() -> None:
    budget, under_way, most = PixelBudget(100), [0], [0]
    lock = threading.Lock()

    def work(pixels: int) -> None:
        with budget.taken(pixels):
            with lock:
                under_way[0] += pixels
                most[0] = max(most[0], under_way[0])
            time.sleep(0.002)
            with lock:
                under_way[0] -= pixels

    sizes = [30, 60, 10, 100, 45] * 8
    workers = [threading.Thread(target=work, args=(size,)) for size in sizes]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert most[0] == 100  # one of 100 alone
    larger = threading.Thread(target=work, args=(250,))
    larger.start()
    larger.join(60)
    assert not larger.is_alive(), "an image of more than the budget is worked on alone"
    assert most[0] == 250


def test_images_that_fill_the_budget_are_worked_on_together() -> None:
    budget, both = PixelBudget(100), threading.Barrier(2)

    def work() -> None:
        with budget.taken(50):
            both.wait(60)

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not both.broken


def test_an_image_that_fails_gives_its_pixels_back() -> None:
    budget, worked = PixelBudget(100), threading.Event()
    with pytest.raises(ValueError, match="damaged"), budget.taken(100):
        raise ValueError("damaged")

    def work() -> None:
        with budget.taken(100):
            worked.set()

    threading.Thread(target=work, daemon=True).start()
    assert worked.wait(60)


def test_a_large_image_is_not_overtaken_by_small_ones() -> None:
    budget, order = PixelBudget(100), list[int]()

    def work(pixels: int) -> None:
        with budget.taken(pixels):
            order.append(pixels)

    workers = [threading.Thread(target=work, args=(pixels,)) for pixels in (100, 30)]
    with budget.taken(60):
        for worker in workers:
            worker.start()
            while not budget._turn.locked():  # the first one waits, and whoever comes next does so behind it
                time.sleep(0.001)
        workers[1].join(0.05)
        assert not order
    for worker in workers:
        worker.join()
    assert order == [100, 30]
