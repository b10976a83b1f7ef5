"""Products of two variable arrays, eliminated whole: tensor calculus, with every delta a letter that two sides share.

For y = sum_S a b (subscripts L, R -> O, summed letters S, S' their copies), where d²f holds h dy dy and adj d²y:

    H_aa' += sum_{O - L}  h b_R b_R'          rows a_L, columns a_L'      (L' is L with S' for S)
    H_bb' += sum_{O - R}  h a_L a_L'          rows b_R, columns b_R'
    H_ab' += h b_R a_L'                       rows a_L, columns b_R'
    H_ab  += adj                              rows a_L, columns b_R

||T - U V'||² costs 2 V'V, 2 U'U and one outer product that way, not one product with H for each column.

Source: S. Laue, M. Mitterreiter, J. Giesen, Computing higher order derivatives of matrix and tensor expressions (2018).
"""

from __future__ import annotations

from collections.abc import Mapping
from string import ascii_letters

from hesse_engine.ir.graph import Node, Shape, apply, size_of
from hesse_engine.structure.images import Contribution, Image, IndexImage
from hesse_engine.structure.sinking import spread

LARGEST = 1 << 24  # elements of a weight


def product_terms(
    node: Node, own: Node | None, adjoint: Node | None, images: Mapping[Node, Image]
) -> list[Contribution] | None:
    """What `node` = contract(a, b) adds to H, a and b being index images without tables; None where it is not so.

    `own` is h, the weight of dy dy; `adjoint` that of d²y; both of the shape of `node`.
    """
    a, b = node.args
    first, second = images.get(a), images.get(b)
    if not isinstance(first, IndexImage) or not isinstance(second, IndexImage):
        return None
    if first.table is not None or second.table is not None:
        return None
    left, right, out = node.attrs["subscripts"].replace("->", ",").split(",")
    summed = "".join([c for c in left if c not in out])
    free = iter([c for c in ascii_letters if c not in left + right])
    copies = {c: next(free) for c in summed}
    lengths = {**dict(zip(left, a.shape, strict=True)), **dict(zip(right, b.shape, strict=True))}
    lengths |= {copies[c]: lengths[c] for c in summed}
    terms = _Terms(lengths, {a: first, b: second})
    left_copy, right_copy = (_renamed(own_letters, copies) for own_letters in (left, right))
    found: list[Contribution] = []
    inner = out + summed
    if own is not None:
        wide = inner + _renamed(summed, copies)
        if terms.size(wide) > LARGEST or terms.size(left + right_copy) > LARGEST:
            return None
        h = spread(own, out, inner, terms.shape(inner))
        for x, letters, y, other, other_copy in ((a, left, b, right, right_copy), (b, right, a, left, left_copy)):
            scaled = h * spread(y, other, inner, terms.shape(inner))
            to = letters + _renamed(summed, copies)
            weight = apply("contract", scaled, y, subscripts=f"{inner},{other_copy}->{to}")
            found.append(terms.term(x, letters, x, _renamed(letters, copies), to, weight, False))
        scaled = h * spread(b, right, inner, terms.shape(inner))
        weight = spread(scaled, inner, wide, terms.shape(wide)) * spread(a, left_copy, wide, terms.shape(wide))
        found.append(terms.term(a, left, b, right_copy, wide, weight, True))
    if adjoint is not None:
        if terms.size(inner) > LARGEST:
            return None
        weight = spread(adjoint, out, inner, terms.shape(inner))
        found.append(terms.term(a, left, b, right, inner, weight, True))
    return found


def _renamed(letters: str, copies: Mapping[str, str]) -> str:
    return "".join([copies.get(c, c) for c in letters])


class _Terms:
    """Contributions over letters of known lengths."""

    def __init__(self, lengths: Mapping[str, int], images: Mapping[Node, IndexImage]) -> None:
        self.lengths, self.images = lengths, images

    def shape(self, letters: str) -> Shape:
        return tuple([self.lengths[c] for c in letters])

    def size(self, letters: str) -> int:
        return size_of(self.shape(letters))

    def term(
        self, a: Node, own: str, b: Node, other: str, letters: str, weight: Node, is_mirrored: bool
    ) -> Contribution:
        return Contribution(self._image(a, own, letters), self._image(b, other, letters), weight, is_mirrored)

    def _image(self, x: Node, own: str, letters: str) -> IndexImage:
        """The image of x, whose axes are `own`, over `letters`."""
        image = self.images[x]
        steps = tuple([image.steps[own.index(c)] if c in own else 0 for c in letters])
        return IndexImage(self.shape(letters), image.offset, steps)
