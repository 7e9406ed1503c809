"""What the source of a pipeline's class says about its run, read from the syntax tree without running it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

__all__ = ["Source"]

_IMAGE: Final = re.compile(r"image\w*latents")
_UPCAST: Final = re.compile(r"\.upcast_vae\(\)|vae\.to\((dtype=)?torch\.float32\)")
_CODED: Final = re.compile(
    r"vae\.(encode|decode)\(|_(encode)_vae\w*\(|self\.(encode)_video\(|\b(decode)_latents\(|(prepare)_latents\("
)
_TOLD: Final = (
    "prompt",
    "negative_prompt",
    "image",
    "mask_image",
    "control_image",
    "video",
    "height",
    "width",
    "num_frames",
    "num_images_per_prompt",
    "num_videos_per_prompt",
    "guidance_scale",
    "true_cfg_scale",
)
_PATCH: Final = re.compile(r"self\.patch_size|self\.transformer\.config\.patch_size")
_EACH: Final = re.compile(r"for \w+ in (enumerate\()?(images?|references|condition_images)\b")
_SCALE: Final = re.compile(r"(self\.)?vae_scale(_factor(_spatial)?)?|self\.vae_spatial_compression_ratio")


@dataclass(frozen=True)
class Source:
    """A class of pipelines in its module.

    Attributes:
        node: the class.
        module: the module's text.
    """

    node: ast.ClassDef
    module: str

    @cached_property
    def text(self) -> str:
        """The text of the class."""
        return ast.get_source_segment(self.module, self.node) or ""

    @cached_property
    def methods(self) -> dict[str, ast.FunctionDef]:
        """Its methods by name."""
        return {item.name: item for item in self.node.body if isinstance(item, ast.FunctionDef)}

    @cached_property
    def call(self) -> ast.FunctionDef | None:
        """What runs it."""
        return self.methods.get("__call__")

    @cached_property
    def constants(self) -> dict[str, Any]:
        """Numbers and lists of the module, and defaults of the call's parameters."""
        found: dict[str, Any] = {}
        for item in ast.parse(self.module).body:
            if isinstance(item, ast.Assign) and isinstance(item.targets[0], ast.Name):
                found[item.targets[0].id] = _value(item.value, found)
        arguments = self.call.args if self.call is not None else None
        if arguments is not None:
            names = [one.arg for one in arguments.args[len(arguments.args) - len(arguments.defaults) :]]
            found |= {name: _value(default, found) for name, default in zip(names, arguments.defaults, strict=True)}
        return found

    def attribute(self, name: str) -> Any:
        """An attribute of the class that is a literal; None if it has none of its own."""
        for item in self.node.body:
            if isinstance(item, ast.Assign) and ast.unparse(item.targets[0]) == name:
                return _value(item.value, {})
        return None

    def takes(self) -> list[str]:
        """The parameters of its call that say what is made, and of what."""
        arguments = self.call.args if self.call is not None else None
        names = [one.arg for one in (*arguments.args, *arguments.kwonlyargs)] if arguments is not None else []
        return [name for name in names if name in _TOLD]

    def joins(self) -> bool:
        """Whether the network is given an input image's tokens beside those of the latents: they are joined along the
        sequence, and so are their positions, or the network's answer is cut to one of them."""
        if self.call is None:
            return False
        joined = any(
            {"latents" in name for name in names} == {True} and any(_IMAGE.search(name) for name in names)
            for names in _joined(self.call)
        )
        ids = any(all(name.endswith("_ids") for name in names) for names in _joined(self.call))
        return joined and (ids or any(_cut(node) for node in ast.walk(self.call)))

    def added(self) -> int:
        """How many input images are each one more latent frame of what the network works on, as large as the result:
        joined before the latents, and there put back at each step, or cut off at the end. 0 for none, 2 for several."""
        if self.call is None:
            return 0
        first = [names[0] for names in _joined(self.node) if names[-1].endswith(("latents", "latent"))]
        several = any(name.startswith(("*", "reference")) for name in first)
        if several and any(_rest(node) for node in ast.walk(self.call)):
            return 2
        put_back = any(_put_back(node) for node in ast.walk(self.call))
        return int(put_back and any(_IMAGE.search(name) for name in first))

    def base_area(self, processors: str) -> int | None:
        """The area that everything is scaled to by the pipeline's own image processor, in pixels; None without one.

        Args:
            processors: the text of the module of such processors.
        """
        if self.call is None or "get_default_height_width(image, height, width)" not in ast.unparse(self.call):
            return None
        for node in ast.parse(processors).body:
            start = Source(node, processors).methods.get("__init__") if isinstance(node, ast.ClassDef) else None
            if start is None or not isinstance(node, ast.ClassDef) or f"= {node.name}(" not in self.text:
                continue
            names = [one.arg for one in start.args.args[len(start.args.args) - len(start.args.defaults) :]]
            usual = dict(zip(names, start.args.defaults, strict=True))
            side = _value(usual["basesize"], {}) if "basesize" in usual else None
            return side * side if isinstance(side, int) else None
        return None

    def decodes_images(self) -> bool:
        """Whether it decodes the latents of the input images again."""
        return self.call is not None and "latents.flatten(0, 1)" in ast.unparse(self.call)

    def example_images(self) -> int:
        """Whether the class's own example gives it an image (1 or 0)."""
        found = self.constants.get("EXAMPLE_DOC_STRING")
        text = found if isinstance(found, str) else self.module[: self.module.find(f"class {self.node.name}")]
        calls = re.findall(r"\b(?:pipe|pipeline)\(((?:[^()]|\([^()]*\))*)\)", text)
        return int(bool(calls) and bool(re.search(r"\bimage=|^[\s.>]*(input_)?image\b", calls[-1])))

    def reference(self) -> dict[str, Any]:
        """To which size an input image is scaled: `area` in pixels, either always or at most (`most`), or one of
        `sizes`."""
        sizes = self._preferred()
        if sizes:
            return {"sizes": sizes}
        areas = dict(self._areas())
        for word in ("vae", "input", "calculated"):
            if word in areas:
                return {"area": areas[word]}
        limit = re.search(r"(?:width \* \w*height|h \* raw_w|h \* raw_ref_w) > ([\d *]+):", self.text)
        return {"area": _value(ast.parse(limit.group(1).strip(), mode="eval").body, {}), "most": True} if limit else {}

    def several(self) -> bool:
        """Whether a list of images is several images of one prompt: its call goes through it."""
        return self.call is not None and bool(_EACH.search(ast.unparse(self.call)))

    def keeps_image(self) -> bool:
        """Whether it keeps the keys and values of an input image from the first step on."""
        return self.call is not None and "kv_cache" in ast.unparse(self.call)

    def prompt_area(self) -> int | None:
        """To how many pixels an image is scaled that is part of the prompt; None where none is."""
        if self.call is None:
            return None
        prompts = [node for node in _calls(self.call) if ast.unparse(node.func) == "self.encode_prompt"]
        if not any(
            "image" in (key.arg or "") and key.arg != "num_images_per_prompt" for one in prompts for key in one.keywords
        ):
            return None
        areas = dict(self._areas())
        return areas.get("condition", areas.get("input", areas.get("calculated")))

    def max_area(self) -> int | None:
        """To how many pixels the result is scaled, whatever is asked; None where it is as asked."""
        scaled = re.search(r"width = round\(\(max_area \* aspect_ratio\) \*\* 0\.5\)", self.text)
        found = self.constants.get("max_area")
        if scaled and isinstance(found, int):
            return found
        side = re.search(r"self\.default_sample_size = (\d+)", self.text)
        scale = re.search(r"self\.vae_scale_factor = [^=]*? else (\d+)", self.text)
        square = "S_max = (self.default_sample_size * self.vae_scale_factor) ** 2" in self.text
        return (int(side.group(1)) * int(scale.group(1))) ** 2 if square and side and scale else None

    def edge(self) -> dict[str, Any]:
        """What sides must be multiples of (`edge`, times the pixels of a latent if `scaled`, times the denoiser's patch
        if `patched`), and whether others are refused."""
        for name in ("check_inputs", "__call__"):
            method = self.methods.get(name)
            for node in ast.walk(method) if method is not None else ():
                found = self._multiple(node) if isinstance(node, ast.If) else {}
                if found:
                    return found
        return {}

    def _multiple(self, node: ast.If) -> dict[str, Any]:
        match = re.search(r"\bheight % (\([^()]*\)|[\w.]+)", ast.unparse(node.test))
        if match is None:
            return {}
        number = match.group(1).strip("()")
        named = re.search(rf"^\s*{re.escape(number)} = ([\w.]+ \* \d+)$", self.text, re.MULTILINE)
        number = named.group(1) if named else number
        plain, scales = _SCALE.subn("1", number)
        plain, patches = _PATCH.subn("1", plain)
        value = _value(ast.parse(plain, mode="eval").body, {}) if re.fullmatch(r"[\d *]+", plain) else None
        if not isinstance(value, int):
            return {}
        return {
            "edge": value,
            "scaled": bool(scales) or None,
            "patched": bool(patches) or None,
            "refuses": any(isinstance(item, ast.Raise) for item in node.body) or None,
        }

    def upcasts(self) -> dict[str, str]:
        """For encoding and decoding, in which dtypes the VAE is made float32 where its config has `force_upcast`:
        `float16` or `any`."""
        found: dict[str, str] = {}
        for method in self.methods.values():
            text = ast.unparse(method)
            always = "float16" not in text
            for match in _UPCAST.finditer(text):
                before = text[: match.start()].rstrip().splitlines()
                test = next((line for line in reversed(before) if line.lstrip().startswith(("if ", "elif "))), "")
                if "upcast" not in test:
                    continue
                coded = _CODED.search(text, match.end())
                if coded is None:
                    continue
                what = next(filter(None, coded.groups()))
                half = not always and ("needs_upcasting" in test or "float16" in test)
                found["encode" if what == "prepare" else what] = "float16" if half else "any"
        return found

    def _areas(self) -> Iterator[tuple[str, int]]:
        """Areas that an image is scaled to by `calculate_dimensions`, by the first word of what they are called."""
        for node in ast.walk(self.call) if self.call is not None else ():
            if not (isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)):
                continue
            if ast.unparse(node.value.func) == "calculate_dimensions":
                area = _value(node.value.args[0], self.constants)
                if isinstance(area, int):
                    yield ast.unparse(node.targets[0]).strip("(").split("_")[0], area

    def _preferred(self) -> list[list[int]]:
        """The sizes of a list of the module that an image is scaled to one of."""
        for name, value in self.constants.items():
            if name.startswith("PREFERRED") and name in self.text:
                found = value.get(1024 * 1024) if isinstance(value, dict) else value
                return [list(pair) for pair in found or ()]
        return []


def _calls(node: ast.AST) -> Iterator[ast.Call]:
    yield from (item for item in ast.walk(node) if isinstance(item, ast.Call))


def _joined(node: ast.AST) -> Iterator[list[str]]:
    """What `torch.cat` joins along the second dimension."""
    for item in _calls(node):
        along = [ast.unparse(key.value) for key in item.keywords if key.arg == "dim"]
        if ast.unparse(item.func) == "torch.cat" and along == ["1"] and isinstance(item.args[0], ast.List):
            yield [ast.unparse(part).replace("latent_model_input", "latents") for part in item.args[0].elts]


def _put_back(node: ast.AST) -> bool:
    """Whether image latents are written into the first part of the latents, along the second dimension."""
    return (
        isinstance(node, ast.Assign)
        and ast.unparse(node.targets[0]).startswith("latents[:, :")
        and bool(_IMAGE.search(ast.unparse(node.value)))
    )


def _rest(node: ast.AST) -> bool:
    """Whether it is the latents without a first part, along the second or third dimension."""
    return isinstance(node, ast.Subscript) and bool(re.fullmatch(r"latents\[:, (:, )?[a-z_]\w*:\]", ast.unparse(node)))


def _cut(node: ast.AST) -> bool:
    """Whether it is a part of a prediction along the second dimension."""
    return (
        isinstance(node, ast.Subscript)
        and "noise_pred" in ast.unparse(node.value)
        and isinstance(node.slice, ast.Tuple)
        and isinstance(node.slice.elts[1], ast.Slice)
        and (node.slice.elts[1].lower is None) != (node.slice.elts[1].upper is None)
    )


def _value(node: ast.expr, names: dict[str, Any]) -> Any:
    """The value of literals, names that are known, and products and powers of them; None for anything else."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult | ast.Pow):
        left, right = _value(node.left, names), _value(node.right, names)
        if isinstance(left, int) and isinstance(right, int):
            return left * right if isinstance(node.op, ast.Mult) else left**right
        return None
    if isinstance(node, ast.Dict):
        keys = [_value(key, names) for key in node.keys if key is not None]
        return dict(zip(keys, [_value(value, names) for value in node.values], strict=False))
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None
