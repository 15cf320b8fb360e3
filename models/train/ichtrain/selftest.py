"""A fast check of what training and the daemon must agree on. No data and no framework needed."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import yaml
from PIL import Image

from . import folds, imagenet, metrics, paint
from .augment import rotated
from .card import finding_table, points_rows
from .data import targets
from .densenet import DenseNet121
from .export import check, manifest_text, rule_words, to_onnx
from .model import ResNet18, WithCAM
from .preprocess import AIR, Box, NoHead, Preprocessor, Square, crop, find_head, square

MANIFEST = {
    "input": {"name": "image", "height": 224, "width": 224},
    "windows": [{"centre": 40, "width": 80}, {"centre": 80, "width": 200}, {"centre": 600, "width": 2800}],
    "crop": {"threshold": -300, "margin": 0.06, "minimum_area": 0.04},
    "resample": "triangle",
    "normalisation": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
}


def head(rows: int = 512, columns: int = 512, cy: float = 250, cx: float = 260, ry: float = 200, rx: float = 160) -> np.ndarray:
    y, x = np.mgrid[:rows, :columns]
    r = np.hypot((y - cy) / ry, (x - cx) / rx)
    hu = np.full((rows, columns), -1000, np.int16)
    hu[r < 1] = 900
    hu[r < 0.92] = 35
    hu[(r < 0.92) & (np.hypot(y - cy, x - cx - 60) < 20)] = 70
    return hu


def test_head_is_found_within_a_cell() -> None:
    b = find_head(head(), -300, 0.04)
    for got, want in ((b.y0, 50), (b.y1, 450), (b.x0, 100), (b.x1, 420)):
        assert abs(got - want) <= 8, (b, want)


def test_table_and_holder_do_not_move_the_box() -> None:
    hu = head()
    want = find_head(hu, -300, 0.04)
    hu[480:490, :] = 200  # table
    hu[100:400, 20:24] = 100  # one cell thick: eroded away
    assert find_head(hu, -300, 0.04) == want


def test_no_head() -> None:
    for hu in (np.full((512, 512), -1000, np.int16), head(ry=30, rx=30)):
        try:
            find_head(hu, -300, 0.04)
        except NoHead:
            continue
        raise AssertionError("a head was found where there is none")


def test_head_is_found_where_air_is_clipped() -> None:
    """Slices exported in one window: the lower end of the window stands for air."""
    hu = head()
    want = find_head(hu, -300, 0.04)
    for low, high in ((0, 80), (-20, 100), (-299, 500)):
        assert find_head(np.clip(hu, low, high), -300, 0.04) == want, (low, high)
    for outside, inside, corner, found in (  # as in infer/pixel/preprocess_test.go
        (9, 40, 0, Box(30, 30, 89, 89)),  # noise below what stands out
        (-300, -290, -300, Box(30, 30, 89, 89)),  # at the threshold is no air
        (-300, -290, -301, Box(0, 0, 127, 127)),  # a single pixel below it is
        (-300, -291, -300, None),  # nothing stands out
        (40, 40, 40, None),
        (32767, 32767, 32767, None),
        (32757, 32767, 32757, Box(30, 30, 89, 89)),
    ):
        level = np.full((128, 128), outside, np.int16)
        level[30:90, 30:90] = inside
        level[0, 0] = corner
        try:
            got = find_head(level, -300, 0.04)
        except NoHead:
            got = None
        assert got == found, (outside, inside, corner, got)


def test_first_of_two_equal_components_wins() -> None:
    hu = np.full((128, 128), -1000, np.int16)
    hu[70:110, 10:50] = 0
    hu[20:60, 60:100] = 0
    assert find_head(hu, -300, 0.04) == Box(20, 60, 59, 99)


def test_diagonal_neighbours_are_not_connected() -> None:
    hu = np.full((128, 128), -1000, np.int16)
    hu[10:50, 10:50] = 0
    hu[49:99, 49:99] = 0  # after the erosion the two touch at a corner at most
    assert find_head(hu, -300, 0.04) == Box(49, 49, 98, 98)


def test_square_is_centred_and_rounded_half_up() -> None:
    assert square(Box(10, 20, 109, 69), 0.06) == Square(4, -11, 112)
    assert square(Box(0, 0, 24, 24), 0.01).side == 26  # 25.5


def test_outside_is_air() -> None:
    hu = np.zeros((10, 10), np.int16)
    out = crop(hu, Square(-3, 6, 8))
    assert (out[:3] == AIR).all() and (out[:, 4:] == AIR).all() and (out[3:, :4] == 0).all()


def test_windows_map_their_ends_to_0_and_1() -> None:
    pre = Preprocessor(MANIFEST)
    for hu, want in ((-20, (0, 0, 0.2785714)), (80, (1, 0.5, 0.3142857)), (40, (0.5, 0.3, 0.3)), (3000, (1, 1, 1)), (-1024, (0, 0, 0))):
        got = pre.windows(np.full((300, 300), hu, np.int16))
        for channel, v in zip(got, want):
            assert abs(float(channel.min()) - (v - 0.5) / 0.25) < 1e-5, (hu, float(channel.min()), v)


def test_resampling_is_pillows_bilinear() -> None:
    """The filter that the manifest calls triangle, shrinking and growing, against an independent program."""
    rng = np.random.default_rng(3)
    identity = MANIFEST | {
        "windows": [{"centre": 0.5, "width": 1}],
        "normalisation": {"mean": [0.0], "std": [1.0]},
    }
    for side in (150, 224, 311, 448, 640):
        v = rng.random((side, side)).astype(np.float32)
        got = Preprocessor(identity).windows(v)[0].numpy()
        want = np.asarray(Image.fromarray(v, "F").resize((224, 224), Image.Resampling.BILINEAR))
        assert np.abs(got - want).max() < 2e-6, (side, np.abs(got - want).max())


def test_field_of_view_and_table_do_not_matter() -> None:
    """The same head, moved in its image: the same input."""
    pre = Preprocessor(MANIFEST)
    a, b = head(), head(640, 600, cy=250 + 40, cx=260 + 24)
    b[620:, :] = 300
    assert np.abs((pre(a) - pre(b)).numpy()).max() < 1e-6


def test_rotation() -> None:
    t = torch.from_numpy(head(224, 224, 112, 112, 100, 70).astype(np.float32))[None]
    assert (rotated(t, 0.0) - t).abs().max() < 0.5
    assert (rotated(t, 90.0) - t.rot90(1, (1, 2))).abs().max() < 1.5


def test_targets() -> None:
    t = targets(np.array([[1, 0, 0, 0, 0, 0], [0, 0, 0, 1, 1, 0]], bool))
    assert np.allclose(t, [[1, 0, 0, 0, 0, 0], [0, 0, 0, 0.5, 0.5, 0]])


def test_metrics() -> None:
    assert metrics.auc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True])) == 0.75
    p, low, high = metrics.wilson(251, 280)
    assert abs(p - 0.8964) < 1e-4 and abs(low - 0.855) < 1e-3 and abs(high - 0.927) < 1e-3


def test_study_rule() -> None:
    manifest = {
        "classes": ["normal", "a", "b"],
        "study_rule": {"kind": "adjacent", "slices": 2, "of": 3, "minimum_slices": 8, "maximum_gap_mm": 15},
    }
    thresholds = {"a": 0.5, "b": 0.3}
    z = np.arange(10) * 5.0

    def study(*marks: tuple[int, int, float], z: np.ndarray = z) -> metrics.Decision:
        p = np.zeros((len(z), 3))
        for i, c, v in marks:
            p[i, c] = v
        return metrics.decide(z, p, manifest, {"thresholds": thresholds})

    assert study((4, 1, 0.9)).verdict == "negative", "one slice is not enough"
    assert study((4, 1, 0.9), (6, 1, 0.5)).finding == "a"
    assert study((4, 1, 0.9), (7, 1, 0.9)).verdict == "negative", "too far from each other"
    assert study((4, 1, 0.9), (5, 2, 0.9)).verdict == "negative", "two classes do not add up"
    assert study((4, 2, 0.31), (5, 2, 0.3)).score == 0.3
    assert study((1, 1, 0.6), (2, 1, 0.6), (5, 2, 0.5), (6, 2, 0.5)).finding == "b", "farther above its threshold"
    apart = np.where(np.arange(10) > 4, z + 20, z)
    assert study((4, 1, 0.9), (5, 1, 0.9), z=apart).verdict == "gap"
    assert study(z=z[:7]).verdict == "too few slices"
    assert study((0, 1, 0.9), (1, 1, 0.9), z=z[:7]).positive, "positive however incomplete"


def test_study_rule_of_evidence() -> None:
    """By hand: odds of 0.5 are 1, of 0.8 are 4, of 0.2 are 1/4."""
    rule = {"kind": "evidence", "power": 0.5, "slice_mm": 5, "head_mm": 5, "minimum_slices": 4, "maximum_gap_mm": 15}
    manifest = {"classes": ["normal", "a", "b"], "study_rule": rule}
    point = {"thresholds": {"a": 0.6, "b": 0.3}, "study_threshold": 0.9}

    def study(z: list[float], anything: list[float], cls: int = 1, **changed: float) -> metrics.Decision:
        p = np.zeros((len(z), 3))
        p[:, cls], p[:, 0] = anything, 1 - np.array(anything)
        return metrics.decide(np.array(z), p, manifest | {"study_rule": rule | changed}, point)

    every5 = [0.0, 5.0, 10.0, 15.0, 20.0]
    for z, p, changed, odds in (
        ([7.0], [0.8], {}, 4),
        (every5[:2], [0.8, 0.5], {}, 9),
        (every5, [0.5, 0.2, 0.8, 0.2, 0.5], {}, 25),
        (every5[::-1], [0.5, 0.2, 0.8, 0.2, 0.5], {}, 25),
        (every5, [0.5, 0.2, 0.8, 0.2, 0.5], {"power": 1}, 6.5),
        ([0.0, 12.0, 24.0], [0.5, 0.5, 0.5], {}, 9),
        ([0.0, 1.0, 4.0, 14.0], [0.5, 0.8, 0.5, 0.5], {}, 9),  # 0.2*1 + 0.4*2 + 1 + 1
        ([0.0, 5.0, 5.02], [0.5, 0.2, 0.8], {}, 9),  # two at a place, the higher
        (every5[:2], [1.0, 0.5], {"power": 1}, 1 + (1 - 1e-6) / 1e-6),
    ):
        score = study(z, p, **changed).score
        assert abs(score - odds / (1 + odds)) < 1e-9, (z, p, changed, score, odds / (1 + odds))
    assert study(every5, [0.5, 0.5, 0.5, 0.2, 0.1]).finding == "a", "positive, with no slice at its class's threshold"
    assert study(every5, [0.5, 0.5, 0.5, 0.2, 0.1]).positive
    assert study(every5[:2], [0.9, 0.9], 2).positive, "positive however incomplete"
    assert study(every5, [0.1] * 5).verdict == "negative"
    assert study(every5[:3], [0.1] * 3).verdict == "too few slices"
    assert study([0.0, 5.0, 10.0, 30.0], [0.1] * 4).verdict == "gap"
    manifest["operating_point"], manifest["operating_points"] = "p", [{"name": "p", **point}]
    assert yaml.safe_load(manifest_text(manifest)) == manifest
    assert "; studies 0.9 |" in points_rows(manifest) and "evidence" in rule_words(rule)


def test_thresholds_of_studies_and_of_slices() -> None:
    rng = np.random.default_rng(4)
    calm, scores = rng.beta(1, 6, (400, 3)), rng.beta(1, 3, (40, 3))
    bleeds = np.arange(40) < 20
    scores[bleeds, 0] += 0.2
    for key, share, quiet in (("study_sensitivity", 0.9, 0.85), ("study_sensitivity", 0.7, 0.9), ("study_specificity", 0.9, 0.95)):
        goal = {key: share, "slice_specificity": quiet}
        o = metrics.choose_point(calm, scores, bleeds, ["normal", "a", "b"], goal, {"kind": "evidence"})

        def reached(t: float) -> float:
            positive = scores[:, 0] >= t
            return positive[bleeds].mean() if key == "study_sensitivity" else (~positive[~bleeds]).mean()

        t, beyond = o["study_threshold"], 1e-4 if key == "study_sensitivity" else -1e-4
        assert round(t, 4) == t and reached(t) >= share > reached(t + beyond), (goal, t, reached(t), reached(t + beyond))
        kept = (calm[:, 1:] < [o["thresholds"]["a"], o["thresholds"]["b"]]).all(1).mean()
        assert quiet <= kept < quiet + 0.02, (goal, kept)
    for near, key, want in ((0.99999, "study_specificity", 0.9999), (0.00001, "study_sensitivity", 0.0001)):
        assert metrics.choose_study_threshold(np.full(4, near), np.arange(4) < 2, {key: 1}) == want


def test_shares_have_intervals_over_studies() -> None:
    right = np.arange(40) % 3 > 0
    once = metrics.share(right, np.arange(40))
    assert np.allclose(once, metrics.wilson(int(right.sum()), 40)), once
    often = metrics.share(np.repeat(right, 20), np.repeat(np.arange(40), 20))
    assert often[0] == once[0] and often[2] - often[1] > 0.8 * (once[2] - once[1]), (once, often)
    assert np.allclose(metrics.share(np.ones(60, bool), np.arange(60) // 6), metrics.wilson(10, 10)), "ten studies are ten trials"
    assert np.isnan(metrics.share(right[:0], right[:0])).all()


def test_undecided_studies_raise_no_alert() -> None:
    """Six studies of three slices each: too few to be negative. Two of those that bleed score enough to be positive."""
    study = np.repeat(np.arange(6), 3)
    bleeds = np.arange(6) < 4
    labels = np.column_stack([~bleeds[study], bleeds[study]])
    data = SimpleNamespace(
        classes=["normal", "a"], study=study, labels=labels, doubtful=np.zeros(18, bool), position=np.arange(18) * 5.0,
        kinds=["a" if b else "normal" for b in bleeds], study_bleeds=bleeds,
    )  # fmt: skip
    p = np.where(study < 2, 0.9, 0.1)
    rule = {"kind": "adjacent", "slices": 2, "of": 3, "minimum_slices": 8, "maximum_gap_mm": 15}
    manifest = {"classes": data.classes, "study_rule": rule}
    f = metrics.assess(data, np.arange(18), np.column_stack([1 - p, p]), manifest, {"thresholds": {"a": 0.5}})["studies"]
    assert f["sensitivity"][3:] == [2, 4] and f["specificity"][3:] == [2, 2] and f["not analysed"] == 4, f
    assert f["findings"] == {"a": {"a": 2, "not analysed": 2}, "normal": {"not analysed": 2}}, f
    assert "| normal | 0 | 0 | 2 |" in finding_table({"studies": f}, data.classes)


def test_operating_points_are_in_order() -> None:
    points = [
        {"name": "a", "thresholds": {"x": 0.1, "y": 0.2}, "study_threshold": 0.3},
        {"name": "b", "thresholds": {"x": 0.2, "y": 0.2}, "study_threshold": 0.4},
        {"name": "c", "thresholds": {"x": 0.15, "y": 0.5}, "study_threshold": 0.35},
    ]
    said = metrics.raise_in_order(points)
    assert [p["study_threshold"] for p in points] == [0.3, 0.4, 0.4] and points[2]["thresholds"] == {"x": 0.2, "y": 0.5}
    assert said == [
        "c: the threshold of studies would be 0.35, below that of b; raised to it, 0.4",
        "c: the threshold of x would be 0.15, below that of b; raised to it, 0.2",
    ], said
    assert metrics.raise_in_order(points) == []


def test_thresholds_reach_what_the_point_asks_for() -> None:
    rng = np.random.default_rng(4)
    calm, scores = rng.beta(1, 6, (400, 3)), rng.beta(1, 3, (40, 3))
    bleeds = np.arange(40) < 20
    scores[bleeds, 1] += 0.4
    for key, share in (("study_sensitivity", 0.9), ("study_sensitivity", 0.7), ("study_specificity", 0.9)):
        t = metrics.choose_point(calm, scores, bleeds, ["normal", "a", "b"], {key: share}, {"kind": "adjacent"})["thresholds"]
        positive = (scores[:, 1:] >= [t["a"], t["b"]]).any(1)
        reached = positive[bleeds].mean() if key == "study_sensitivity" else (~positive[~bleeds]).mean()
        assert reached >= share, (key, share, t, reached)
        flagged = [(calm[:, c] >= t[n]).mean() for c, n in ((1, "a"), (2, "b"))]
        assert abs(flagged[0] - flagged[1]) < 0.01, f"classes flag {flagged} of the slices without a bleed"


def test_operating_points_are_written_as_the_daemon_reads_them() -> None:
    share = (0.91449, 0.8667, 0.9461)
    empty = (float("nan"),) * 3
    figures = {
        "slices": {
            "any": {"auc": [0.9] * 3, "sensitivity": share, "specificity": share},
            "epidural": {"sensitivity": empty, "specificity": share},
        },
        "studies": {"sensitivity": [*share, 181, 198], "specificity": [1.0, 0.9, 1.0, 42, 42]},
    }
    want = [0.914, 0.867, 0.946]
    stated = metrics.expected(figures, "a test")
    assert stated == {
        "protocol": "a test",
        "slice": {"any": {"sensitivity": want, "specificity": want}},
        "study": {"sensitivity": want, "specificity": [1.0, 0.9, 1.0]},
    }, stated
    figures["studies"]["specificity"] = [*empty, 0, 0]
    assert metrics.expected(figures, "a test") is None

    manifest = {"operating_point": "b", "operating_points": [{"name": "a"}, {"name": "b", "expected": stated}]}
    assert yaml.safe_load(manifest_text(manifest)) == manifest
    assert metrics.operating_point(manifest)["name"] == "b" and metrics.operating_point(manifest, "a")["name"] == "a"


def test_export_agrees_with_torch() -> None:
    torch.manual_seed(5)
    net = ResNet18(6, 16)
    for m in net.modules():  # as if trained: batch norm that does something
        if isinstance(m, torch.nn.BatchNorm2d):
            m.running_mean.normal_(0, 0.1)
            m.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(m.weight, 0.5, 1.5)
    model = to_onnx(net, 3, (224, 224))
    assert len(model) < 3_000_000, len(model)
    check(net, model, torch.randn(3, 3, 224, 224))


def test_networks_name_their_maps() -> None:
    x = torch.randn(2, 3, 64, 64)
    for net in (ResNet18(6, 8), DenseNet121(6, growth=8)):
        net.eval()
        logits, cam = WithCAM(net)(x)
        assert torch.allclose(logits, net(x), atol=1e-5)
        assert torch.allclose(cam.mean((2, 3)) + net.fc.bias, logits, atol=1e-4)
        trained, evidence, middle = net.forward_training(x)
        assert torch.allclose(trained, logits, atol=1e-5)
        assert evidence.shape == (2, 5) and middle.shape[2:] == (4, 4)


def test_imagenet_weights_compute_the_same_behind_batch_norms() -> None:
    """load() itself asserts that the function does not change; here that training statistics do not change it either."""
    rng = np.random.default_rng(3)
    net = ResNet18()
    with tempfile.TemporaryDirectory() as folder:
        for name, module in net.named_modules():
            if isinstance(module, torch.nn.Conv2d) and not name.startswith(("layer4", "local")):
                n = module.weight.numel() / module.out_channels
                np.save(f"{folder}/{name}.weight.npy", rng.standard_normal(module.weight.shape, np.float32) / n**0.5)
                np.save(f"{folder}/{name}.bias.npy", rng.standard_normal(module.out_channels).astype(np.float32))
        x = torch.randn(16, 3, 64, 64)
        missing = imagenet.load(net, Path(folder), x)
        assert all(n.startswith("layer4") for n in missing), missing
        with torch.no_grad():
            fixed, measured = net.eval().bn1(net.conv1(x)), net.train().bn1(net.conv1(x))
        assert (fixed - measured).abs().max() < 0.02 * fixed.abs().max()


def test_painting() -> None:
    """Each subtype finds room, stays inside the skull, makes brain denser and leaves the rest as it was."""
    hu = head()
    hu += np.random.default_rng(1).normal(0, 4, hu.shape).astype(np.int16)
    y, x = np.mgrid[:512, :512]
    hu[(hu < 200) & (np.hypot((y - 250) / 60, (x - 260) / 20) < 1)] = 5  # a ventricle
    a = paint.Anatomy.find(hu)
    assert a is not None and abs(2 * a.radius - np.sqrt(0.92**2 * 200 * 160)) < 12
    for n, kind in enumerate(paint.KINDS):
        rng = np.random.default_rng(n)
        mask = max((paint.PAINTERS[kind](a, rng) for _ in range(8)), key=np.sum)
        assert 12 < mask.sum() < 0.5 * a.inside.sum() and not (mask & ~a.inside).any(), kind
        out = paint.blend(hu, a, mask, 70, rng, 1.0)
        bleed = np.kron(mask, np.ones((2, 2), bool))
        assert (out - hu)[bleed].mean() > 10, kind
        far = ~np.kron(paint.ndimage.binary_dilation(mask, iterations=8), np.ones((2, 2), bool))
        assert np.abs((out - hu)[far]).max() < 0.5, kind
    assert paint.Anatomy.find(np.full((300, 300), -1000, np.int16)) is None


def test_folds_keep_patients_whole() -> None:
    class Names:
        names = [f"p{n:03}" for n in range(40)]
        study = np.repeat(np.arange(40), 3)
        labels = np.zeros((120, 6), bool)

    Names.labels[:, 0] = True
    Names.labels[:15, 2] = True  # five patients of one subtype
    fold_of = folds.deal(Names, 7)
    assert sorted(np.bincount(list(fold_of.values()))) == [8] * 5
    assert {fold_of[n] for n in Names.names[:5]} == set(range(5)), "a rare subtype is spread over the folds"
    for k in range(5):
        assert not set(folds.inside(Names, fold_of, k)) & set(folds.outside(Names, fold_of, k))
    assert folds.patient("p001-painted") == "p001"


def main() -> int:
    failed = 0
    for name, function in list(globals().items()):
        if name.startswith("test_"):
            try:
                function()
                print(f"ok    {name[5:].replace('_', ' ')}")
            except Exception as e:  # every check is told of, then the count decides
                failed += 1
                print(f"FAIL  {name[5:].replace('_', ' ')}: {type(e).__name__}: {e}")
    print("all well" if not failed else f"{failed} failed")
    return 1 if failed else 0
