"""Solving with I + epsilon G G^T: by a dense factorisation, or by conjugate gradients without G in memory.

Numbers in brackets are formulas of docs/proximal_lstm.md. The solvers of an LSTM know its G = diag(d_i) W_i +
diag(d_f) W_f + diag(d_g) W_g (4) and get `weight` = [W_i; W_f; W_g] times sqrt(epsilon), (3H, I).

Letters in shapes: B batch, I input size, H hidden size.
"""

import math
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

DENSE_UP_TO = 16  # the smaller of H and I up to which the dense way is the faster one
LEAST_RATE = 1e-3  # by which a step may be trusted to reduce the square of a residual
HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


# ---- products --------------------------------------------------------------------------------------------------------


def product(left: Tensor, right: Tensor, plus: Tensor | None = None, out: Tensor | None = None) -> Tensor:
    """left (m, k) times right (k, n), and `plus` added if given: (m, n) or (n,). Nothing is recorded for autograd.

    In float32 on a processor, products of a million multiplications with a matrix of 2^15 numbers or more are
    oneDNN's. It uses AVX-512 on AMD's processors, too, where torch.mm (MKL) does not, and takes half the time there.
    """
    is_large = right.numel() >= 2**15 and left.size(0) * right.numel() >= 2**20
    if is_large and HAS_ONEDNN and left.dtype == torch.float32 and left.device.type == "cpu":
        result = torch.ops.mkldnn._linear_pointwise(left, right.T, None, "none", [], "")
        result = result if plus is None else result.add_(plus)
        return result if out is None else out.copy_(result)
    return torch.mm(left, right, out=out) if plus is None else torch.addmm(plus, left, right, out=out)


# ---- any G -----------------------------------------------------------------------------------------------------------


def solve_dense(s: Tensor, G: Tensor, epsilon: float | Tensor, inverse: Callable | None = None) -> Tensor:
    """(I + epsilon G G^T)^-1 s for s (..., H) and G (..., H, I), by Woodbury's identity (17) if I < H.

    Made of operations that PyTorch can differentiate and transform; by Cholesky's method or the `inverse` given.
    """
    is_wide, s = G.shape[-2] <= G.shape[-1], s.unsqueeze(-1)
    matrix = identity_plus(epsilon * smaller_gram(G))
    right = s if is_wide else G.mT @ s
    if inverse is None:  # cholesky_ex gives NaN for NaN, not an exception: the loss shows it
        solution = torch.cholesky_solve(right, torch.linalg.cholesky_ex(matrix).L)
    else:
        solution = inverse(matrix) @ right
    return (solution if is_wide else s - epsilon * (G @ solution)).squeeze(-1)


def solve_by_products(s: Tensor, G: Tensor, epsilon: float | Tensor) -> Tensor:
    """`solve_dense` with the operations of ONNX."""
    return solve_dense(s, G, epsilon, newton_inverse)


def smaller_gram(G: Tensor) -> Tensor:
    """G G^T (..., H, H) or, if that is smaller, G^T G (..., I, I)."""
    return G @ G.mT if G.shape[-2] <= G.shape[-1] else G.mT @ G


def identity_plus(matrix: Tensor) -> Tensor:
    return matrix + torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)


def newton_inverse(matrix: Tensor, steps: int = 24) -> Tensor:
    """The inverse of symmetric matrices (..., n, n) without an eigenvalue below 1, by products alone.

    X <- X (2 I - A X) (Schulz 1933) squares the error I - A X, which starts with a norm of (r - 1) / (r + 1), r the
    largest sum of a row's absolute values: 24 steps reach rounding for r up to a million.
    """
    largest = matrix.abs().sum(-1, keepdim=True).amax(-2, keepdim=True)  # (..., 1, 1)
    identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    inverse = identity * (2 / (1 + largest))
    for _ in range(steps):
        inverse = inverse @ (2 * identity - matrix @ inverse)
    return inverse


# ---- the G of an LSTM ------------------------------------------------------------------------------------------------


class Cholesky:
    """Solves with I + G G^T for G of (4): `weight` (3H, I) is [W_i; W_f; W_g] times sqrt(epsilon)."""

    def __init__(self, weight: Tensor):
        self.weight = weight

    def jacobian(self, d: Tensor) -> Tensor:
        """G (B, H, I) for d (B, 3, H)."""
        w_i, w_f, w_g = self.weight.unflatten(0, (3, -1))
        d_i, d_f, d_g = d.unsqueeze(-1).unbind(1)
        return (d_i * w_i).addcmul_(d_f, w_f).addcmul_(d_g, w_g)

    def prepare(self, d: Tensor) -> Tensor:
        """What `solve` needs besides d: one row per sample, for all right-hand sides."""
        return torch.linalg.cholesky_ex(identity_plus(smaller_gram(self.jacobian(d)))).L

    def solve(self, d: Tensor, factor: Tensor, b: Tensor, x: Tensor, u: Tensor, y: Tensor) -> None:
        """Writes x = (I + G G^T)^-1 b (B, H), u = G^T x (B, I) and y = [W_i; W_f; W_g] G^T x (B, 3, H)."""
        hidden, inputs = d.shape[-1], self.weight.shape[1]
        if hidden <= inputs:
            x.copy_(torch.cholesky_solve(b.unsqueeze(-1), factor).squeeze(-1))
        else:  # (17), with G applied by products with the weight
            inner = torch.cholesky_solve(self.transpose_times(d, b).unsqueeze(-1), factor).squeeze(-1)
            torch.sub(b, (d * product(inner, self.weight.T).view_as(d)).sum(1), out=x)
        u.copy_(self.transpose_times(d, x))
        product(u, self.weight.T, out=y.flatten(1))

    def transpose_times(self, d: Tensor, x: Tensor) -> Tensor:
        """G^T x (B, I)."""
        return product((d * x.unsqueeze(1)).flatten(1), self.weight)


class ConjugateGradients:
    """The same by conjugate gradients (18): two products with the weight per iteration, G never in memory.

    The batch is one block-diagonal system whose right-hand sides have been brought to length 1 each. Its scalars are
    plain numbers, so that an iteration is ten small operations. After the last one comes a step along the residual,
    which costs no product: the shortest of all steps, as a longer one would enlarge the residual along directions that
    are all but solved. The iterations end when the residual of x after that step, estimated as twice the present one
    times the larger of the factors by which the last two iterations reduced it, is at most `tolerance` (root mean
    square over the samples). Of 2,000 random systems 99 % kept it in float32; the worst exceeded it 4 times (7 times in
    float64). u and y lack that step; gradients need them less precisely than x.
    """

    def __init__(self, weight: Tensor, tolerance: float, max_iterations: int):
        self.weight, self.transposed, self.tolerance, self.max_iterations = weight, weight.T, tolerance, max_iterations
        self.norms = torch.linalg.vector_norm(weight, dim=-1).view(3, -1)  # (3, H)
        self.is_even = self.norms.amax().item() <= 1
        self.tiny = torch.finfo(weight.dtype).tiny
        self.workspaces: dict[int, Workspace] = {}

    def prepare(self, d: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Jacobi's scaling: by the root of one over the diagonal of I + G G^T less its mixed terms.

        Rows of length 1 at most leave the diagonal near 1, and it is not worth its operations.
        """
        if self.is_even:
            return d, None, None
        lengths = d * self.norms
        diagonal = lengths.mul_(lengths).sum(1).add_(1).reciprocal_()
        scale = diagonal.sqrt()
        return d * scale.unsqueeze(1), diagonal, scale

    def solve(self, _, scaled: tuple, b: Tensor, x: Tensor, u: Tensor, y: Tensor) -> None:
        d, diagonal, scale = scaled
        work = self.workspaces.get(b.size(0))
        if work is None:
            work = self.workspaces[b.size(0)] = Workspace(b, self.weight)
        p, q, r = work.p, work.q, work.r
        weight, transposed = self.weight, self.transposed
        work.solution.zero_()
        b = b if scale is None else b * scale
        length = torch.linalg.vector_norm(b, dim=1, keepdim=True).clamp_(min=self.tiny)
        p.copy_(torch.div(b, -length, out=r))  # r and p with the other sign: so one factor serves all updates
        first = square = torch.dot(work.r_vector, work.r_vector).item()  # the number of rows that are not zero
        limit, shortest, last = self.tolerance**2 * first, 0.0, square
        rate, reduced = 1.0, 1.0
        for iteration in range(self.max_iterations):
            if not 4 * square * rate > limit:  # NaN ends it, too: the loss shows it
                break
            if iteration:
                torch.add(r, p, alpha=square / last, out=p)
            torch.mul(d, work.p_spread, out=work.products)
            product(work.products_flat, weight, out=work.u)
            product(work.u, transposed, out=work.y)
            # q = (I + G G^T) p
            torch.sum(torch.mul(d, work.y_blocks, out=work.products), 1, out=q)
            q.add_(p) if diagonal is None else q.addcmul_(diagonal, p)
            step = -square / torch.dot(work.p_vector, work.q_vector).item()
            work.solution.add_(work.direction, alpha=step)
            shortest = max(shortest or step, step)  # steps are negative
            last, square = square, torch.dot(work.r_vector, work.r_vector).item()
            before, reduced = reduced, square / last
            rate = max(before, reduced, LEAST_RATE) if iteration else 1.0
        if 4 * square * rate > limit:
            warnings.warn(
                f"conjugate gradients stopped after {self.max_iterations} iterations with a relative residual of "
                f"{2 * (square * rate / first) ** 0.5:.1e}, above the tolerance of {self.tolerance:.1e}",
                RuntimeWarning,
                stacklevel=2,
            )
        torch.add(work.x, r, alpha=shortest, out=x).mul_(length if scale is None else length * scale)
        torch.mul(work.solution_u, length, out=u)
        torch.mul(work.solution_y, length.unsqueeze(-1), out=y)


class Workspace:
    """Memory of `ConjugateGradients` for a batch size, and views of it.

    x, r, G^T x and W G^T x lie in one block, and so do the directions p, q, u and y by which they change: one operation
    updates all four.
    """

    def __init__(self, b: Tensor, weight: Tensor):
        (batch, hidden), inputs = b.shape, weight.shape[1]
        shapes = ((batch, hidden), (batch, hidden), (batch, inputs), (batch, 3, hidden))
        sizes = [math.prod(shape) for shape in shapes]
        self.solution, self.direction = b.new_empty(sum(sizes)), b.new_empty(sum(sizes))
        solution, direction = self.solution.split(sizes), self.direction.split(sizes)
        self.x, self.r, self.solution_u, self.solution_y = map(Tensor.view, solution, shapes)
        self.p, self.q, self.u, self.y_blocks = map(Tensor.view, direction, shapes)
        self.r_vector, self.p_vector, self.q_vector = solution[1], *direction[:2]
        self.products = torch.empty_like(self.y_blocks)
        self.p_spread, self.y = self.p.unsqueeze(1), self.y_blocks.flatten(1)
        self.products_flat = self.products.flatten(1)


def make_solver(method: str, weight: Tensor, tolerance: float, max_iterations: int) -> Cholesky | ConjugateGradients:
    """The solver for `weight` = [W_i; W_f; W_g] sqrt(epsilon) (3H, I)."""
    if method == "auto":
        method = "cholesky" if min(weight.shape[0] // 3, weight.shape[1]) <= DENSE_UP_TO else "cg"
    return Cholesky(weight) if method == "cholesky" else ConjugateGradients(weight, tolerance, max_iterations)
