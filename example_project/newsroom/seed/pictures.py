"""Pictures drawn by code: the same name always gives the same picture."""

import math
from collections.abc import Callable
from io import BytesIO
from random import Random

from PIL import Image, ImageDraw, ImageFilter

SIZE = (1600, 900)

Colour = tuple[int, int, int]
Points = list[tuple[float, float]]

# From the sky's top to the nearest ground, then the light.
PALETTES = {
    "dawn": ("#27406b", "#f2b59b", "#c9798a", "#7d4f75", "#43305a", "#ffe3b0"),
    "noon": ("#4f9fc9", "#e3f1ee", "#8fbcae", "#4d8b86", "#23595f", "#fffdf0"),
    "dusk": ("#1f2552", "#e9785e", "#a34a68", "#5d2f62", "#2b1d48", "#ffc46b"),
    "night": ("#0a1230", "#2f4a7a", "#22386a", "#16264f", "#0a1532", "#f4f1d6"),
    "moss": ("#7fae9b", "#f1ecd0", "#a9b96d", "#667f45", "#31492f", "#fff6cf"),
    "rust": ("#6f8fa3", "#f4dcc0", "#d9925a", "#a6512f", "#57291f", "#fff0cc"),
    "slate": ("#7d92a6", "#dfe6ea", "#9fb0bd", "#5f7485", "#2f4050", "#ffffff"),
    "rose": ("#8f7fb8", "#fbd9d5", "#e39aa0", "#a95f80", "#573660", "#fff2dd"),
    "lagoon": ("#0e5a73", "#8fdcc9", "#3fa39b", "#1b6f78", "#0b3c4c", "#f9ffe0"),
    "straw": ("#9cc0cf", "#fbf0cb", "#e8c468", "#b98b33", "#5b4a24", "#fffbe6"),
}


def picture(name: str, scene: str, palette: str) -> bytes:
    """Return a JPEG of 1600 x 900 pixels: ``scene`` in the colours of ``palette``."""
    random = Random(name)  # noqa: S311 - for looks, not for secrets
    colours = [_rgb(code) for code in PALETTES[palette]]
    canvas = _gradient(colours[0], colours[1])
    SCENES[scene](canvas, colours, random)
    return _jpeg(canvas)


def portrait(name: str) -> bytes:
    """Return a JPEG of 480 x 480 pixels: a friendly faceless bust."""
    random = Random(name)  # noqa: S311 - for looks, not for secrets
    sky, horizon, far, _middle, near, light = (
        _rgb(code) for code in PALETTES[random.choice(sorted(PALETTES))]
    )
    big = _gradient(horizon, far).resize((960, 960))
    draw = ImageDraw.Draw(big)
    draw.ellipse((90, 60, 870, 840), fill=_mix(light, horizon, 0.5))
    skin = random.choice([(240, 205, 178), (206, 154, 117), (141, 92, 66), (92, 60, 46)])
    hair = random.choice([(52, 40, 38), (84, 54, 38), (120, 84, 50), (196, 190, 184)])
    long_hair = random.random() < 0.5
    if long_hair:
        draw.rounded_rectangle((300, 220, 660, 700), 170, fill=hair)
    draw.ellipse((170, 640, 790, 1320), fill=sky)
    draw.rounded_rectangle((410, 520, 550, 720), 60, fill=_mix(skin, near, 0.22))
    draw.ellipse((330, 240, 630, 610), fill=skin)
    draw.chord((318, 205, 642, 560), 180, 360, fill=hair)
    draw.ellipse((318, 300, 470 if long_hair else 420, 430), fill=hair)
    return _jpeg(big.resize((480, 480), Image.Resampling.LANCZOS))


def _rgb(code: str) -> Colour:
    return int(code[1:3], 16), int(code[3:5], 16), int(code[5:7], 16)


def _mix(one: Colour, other: Colour, share: float) -> Colour:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


def _gradient(top: Colour, bottom: Colour, size: tuple[int, int] = SIZE) -> Image.Image:
    strip = Image.new("RGB", (1, size[1]))
    for y in range(size[1]):
        strip.putpixel((0, y), _mix(top, bottom, y / (size[1] - 1)))
    return strip.resize(size, Image.Resampling.NEAREST)


def _jpeg(image: Image.Image) -> bytes:
    file = BytesIO()
    image.save(file, "JPEG", quality=80)
    return file.getvalue()


def _ridge(random: Random, base: float, height: float, roughness: float) -> Points:
    """Return the outline of a hill range that fills the picture below it."""
    waves = [
        (random.uniform(0.6, 1.4) * step, random.uniform(0, math.tau), 1 / step**roughness)
        for step in (1, 2, 4, 7, 13, 29)
    ]
    points: Points = [(0, SIZE[1])]
    for x in range(0, SIZE[0] + 9, 8):
        swing = sum(
            weight * math.sin(math.tau * pace * x / SIZE[0] + shift)
            for pace, shift, weight in waves
        )
        points.append((x, base - height * swing))
    return [*points, (SIZE[0], SIZE[1])]


def _sun(canvas: Image.Image, light: Colour, x: float, y: float, radius: float) -> None:
    """Paint a disc with a soft glow."""
    small = Image.new("L", (SIZE[0] // 8, SIZE[1] // 8))
    glow = ImageDraw.Draw(small)
    x8, y8, r8 = x / 8, y / 8, radius / 8
    for factor, strength in ((4.0, 46), (2.4, 84), (1.5, 120)):
        reach = r8 * factor
        glow.ellipse((x8 - reach, y8 - reach, x8 + reach, y8 + reach), fill=strength)
    mask = small.filter(ImageFilter.GaussianBlur(r8 * 0.8)).resize(SIZE, Image.Resampling.BICUBIC)
    ImageDraw.Draw(mask).ellipse((x - radius, y - radius, x + radius, y + radius), fill=245)
    canvas.paste(light, (0, 0), mask)


def _water(canvas: Image.Image, colours: list[Colour], random: Random, top: int, x: float) -> None:
    """Paint water from ``top`` to the bottom, with the light of a sun at ``x``."""
    sky, horizon, far, middle, near, light = colours
    canvas.paste(_gradient(_mix(far, horizon, 0.35), near, (SIZE[0], SIZE[1] - top)), (0, top))
    draw = ImageDraw.Draw(canvas)
    for _ in range(420):
        depth = random.random() ** 1.6
        y = top + 4 + depth * (SIZE[1] - top)
        spread = 40 + 300 * depth
        shining = random.random() < 0.5
        middle_x = random.gauss(x, spread / 2) if shining else random.uniform(0, SIZE[0])
        half = (8 + 70 * depth) * random.uniform(0.4, 1)
        colour = (
            _mix(light, middle, 0.25 + 0.5 * depth)
            if shining
            else _mix(random.choice((sky, horizon, near)), middle, 0.75)
        )
        thick = 1 + 5 * depth
        draw.ellipse((middle_x - half, y - thick, middle_x + half, y + thick), fill=colour)


def _hills(canvas: Image.Image, colours: list[Colour], random: Random) -> None:
    _sky, horizon, far, middle, near, light = colours
    _sun(canvas, light, random.uniform(300, 1300), random.uniform(200, 380), 70)
    draw = ImageDraw.Draw(canvas)
    layers = (_mix(far, horizon, 0.55), far, _mix(far, middle, 0.6), middle, near)
    for number, colour in enumerate(layers):
        base = 470 + number * 95
        draw.polygon(_ridge(random, base, 62 - number * 5, 1.25), fill=colour)
    for _ in range(60):
        x, y = random.uniform(0, SIZE[0]), random.uniform(800, 905)
        tall = random.uniform(26, 70) * (y / 850) ** 4
        draw.polygon(
            [(x - tall / 4, y), (x, y - tall), (x + tall / 4, y)],
            fill=_mix(near, (0, 0, 0), random.uniform(0.05, 0.3)),
        )


def _sea(canvas: Image.Image, colours: list[Colour], random: Random) -> None:
    _sky, horizon, far, _middle, near, light = colours
    x, top = random.uniform(400, 1200), random.randint(470, 560)
    _sun(canvas, light, x, top - random.uniform(70, 190), 78)
    ImageDraw.Draw(canvas).polygon(_ridge(random, top - 6, 22, 1.1), fill=_mix(far, horizon, 0.3))
    _water(canvas, colours, random, top, x)
    draw = ImageDraw.Draw(canvas)
    for _ in range(random.randint(2, 4)):
        scale = random.uniform(0.6, 1.6)
        boat_x, y = random.uniform(120, 1480), top + 30 + 90 * scale
        hull, sail = 60 * scale, 110 * scale
        draw.polygon(
            [
                (boat_x - hull, y),
                (boat_x + hull, y),
                (boat_x + hull * 0.7, y + 22 * scale),
                (boat_x - hull * 0.7, y + 22 * scale),
            ],
            fill=near,
        )
        draw.polygon(
            [(boat_x + 4, y - 8), (boat_x + 4, y - sail), (boat_x + hull * 0.9, y - 8)], fill=light
        )
        draw.polygon(
            [(boat_x - 4, y - 8), (boat_x - 4, y - sail * 0.8), (boat_x - hull * 0.6, y - 8)],
            fill=_mix(light, far, 0.35),
        )


def _town(canvas: Image.Image, colours: list[Colour], random: Random) -> None:
    _sky, horizon, far, middle, near, light = colours
    _sun(canvas, light, random.uniform(200, 1400), random.uniform(180, 330), 64)
    draw = ImageDraw.Draw(canvas)
    draw.polygon(_ridge(random, 560, 46, 1.2), fill=_mix(far, horizon, 0.5))
    for row, (colour, base) in enumerate(((far, 660), (middle, 770), (near, 905))):
        x = -40.0
        while x < SIZE[0]:
            wide, tall = random.uniform(70, 150), random.uniform(90, 230) * (1 + row * 0.22)
            shade = _mix(colour, random.choice((horizon, near)), random.uniform(0, 0.22))
            roof, top = random.uniform(20, 70), base - tall
            draw.rectangle((x, top, x + wide, SIZE[1]), fill=shade)
            draw.polygon(
                [(x - 5, top), (x + wide / 2, top - roof), (x + wide + 5, top)],
                fill=_mix(shade, (0, 0, 0), 0.18),
            )
            for column in range(int(wide // 34)):
                for floor in range(int(tall // 52)):
                    if random.random() < 0.55:
                        window_x, y = x + 12 + column * 34, top + 16 + floor * 52
                        lit = _mix(light, shade, random.choice((0.05, 0.35, 0.8)))
                        draw.rectangle((window_x, y, window_x + 13, y + 21), fill=lit)
            x += wide + random.uniform(-4, 16)


def _fields(canvas: Image.Image, colours: list[Colour], random: Random) -> None:
    _sky, horizon, far, middle, near, light = colours
    _sun(canvas, light, random.uniform(300, 1300), 210, 60)
    draw = ImageDraw.Draw(canvas)
    draw.polygon(_ridge(random, 430, 30, 1.2), fill=_mix(far, horizon, 0.45))
    draw.rectangle((0, 455, *SIZE), fill=middle)
    vanish = random.uniform(500, 1100)
    count = 22
    for number in range(count):
        left, right = (vanish + (step - count / 2) * 330 for step in (number, number + 1))
        colour = _mix((far, middle, near)[number % 3], light, random.uniform(0, 0.22))
        top = (vanish - SIZE[0] / 2) * 0.2
        draw.polygon(
            [
                (SIZE[0] / 2 + top + (number - count / 2) * 95, 455),
                (SIZE[0] / 2 + top + (number + 1 - count / 2) * 95, 455),
                (right, SIZE[1]),
                (left, SIZE[1]),
            ],
            fill=colour,
        )
    for number in range(14):
        x, radius = number * 125 + random.uniform(-30, 30), random.uniform(18, 44)
        for share in (0.0, 0.25):
            size = radius * (1 - share)
            draw.ellipse(
                (x - size, 450 - radius - size, x + size, 450 - radius + size),
                fill=_mix(near, middle, share * 2),
            )
        draw.rectangle((x - 3, 450 - radius, x + 3, 462), fill=near)


def _lighthouse(canvas: Image.Image, colours: list[Colour], random: Random) -> None:
    _sky, horizon, _far, middle, near, light = colours
    x = random.uniform(380, 1220)
    _water(canvas, colours, random, 600, x)
    _sun(canvas, light, x, 262, 30)
    beam = Image.new("L", SIZE)
    rays = ImageDraw.Draw(beam)
    rays.polygon([(x, 262), (-100, 60), (-100, 330)], fill=70)
    rays.polygon([(x, 262), (1700, 150), (1700, 420)], fill=70)
    canvas.paste(light, (0, 0), beam.filter(ImageFilter.GaussianBlur(9)))
    draw = ImageDraw.Draw(canvas)
    rock = [(x - 330, 690), (x - 210, 610), (x - 90, 585), (x + 110, 580), (x + 240, 630)]
    draw.polygon([*rock, (x + 380, 700), (x + 200, 735), (x - 220, 730)], fill=near)
    tower = ((-62, 590), (-34, 300), (34, 300), (62, 590))
    draw.polygon([(x + dx, y) for dx, y in tower], fill=_mix(light, horizon, 0.2))
    for band in range(2):
        y = 370 + band * 110
        wide, wider = 34 + (y - 300) * 0.097, 34 + (y + 52 - 300) * 0.097
        draw.polygon(
            [(x - wide, y), (x + wide, y), (x + wider, y + 52), (x - wider, y + 52)], fill=middle
        )
    draw.rectangle((x - 48, 290, x + 48, 304), fill=near)
    draw.rectangle((x - 27, 234, x + 27, 290), fill=_mix(light, (255, 255, 255), 0.4))
    draw.polygon([(x - 36, 234), (x, 188), (x + 36, 234)], fill=near)


def _rings(canvas: Image.Image, colours: list[Colour], random: Random) -> None:
    draw = ImageDraw.Draw(canvas)
    for column in range(4):
        for row in range(3):
            x, y, side = column * 400, row * 300, 400
            ground, *tones = random.sample(colours, 5)
            draw.rectangle((x, y, x + 400, y + 300), fill=ground)
            corner = random.choice(((x, y), (x + 400, y), (x, y + 300), (x + 400, y + 300)))
            tile = Image.new("RGB", (400, 300), ground)
            inner = ImageDraw.Draw(tile)
            centre_x, centre_y = corner[0] - x, corner[1] - y
            for number, tone in enumerate(tones):
                radius = side * (0.74 - number * 0.18)
                inner.ellipse(
                    (centre_x - radius, centre_y - radius, centre_x + radius, centre_y + radius),
                    fill=tone,
                )
            canvas.paste(tile, (x, y))


def _stars(canvas: Image.Image, colours: list[Colour], random: Random) -> None:
    sky, _horizon, far, middle, near, light = colours
    draw = ImageDraw.Draw(canvas)
    for _ in range(340):
        x, y, radius = random.uniform(0, 1600), random.uniform(0, 640), random.random() ** 3 * 3.2
        draw.ellipse(
            (x - radius, y - radius, x + radius, y + radius),
            fill=_mix(light, sky, random.uniform(0, 0.6)),
        )
    _sun(canvas, light, random.uniform(300, 1300), random.uniform(160, 280), 52)
    draw = ImageDraw.Draw(canvas)
    for number, colour in enumerate((far, middle, near)):
        draw.polygon(_ridge(random, 620 + number * 100, 70, 1.05), fill=colour)


SCENES: dict[str, Callable[[Image.Image, list[Colour], Random], None]] = {
    "hills": _hills,
    "sea": _sea,
    "town": _town,
    "fields": _fields,
    "lighthouse": _lighthouse,
    "rings": _rings,
    "stars": _stars,
}
