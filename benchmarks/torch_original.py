"""The PyTorch original that keras_dae is compared with, as an experienced PyTorch user would write it."""

import sys

import torch
from safetensors.torch import load_file
from torch import nn


class Autoencoder(nn.Module):
    """The original network: float32 `(batch, channels, height, width)` in [0, 1].

    See `keras_dae.networks.geometry` for the sizes that fit.
    """

    def __init__(self, channels=1):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, 16, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 5),
            nn.ReLU(),
        )
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(64, 32, 5),
            nn.ReLU(),
            nn.ConvTranspose2d(32, 16, 3, stride=2, padding=1, output_padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(16, channels, 3, stride=2, padding=1, output_padding=1),
            nn.Sigmoid(),
        )

    def forward(self, noisy):
        return self.decoder(self.encoder(noisy))


class Training:
    """The original's training: Adam with learning rate 0.001, MSE, noise factor 0.5, all images in memory as float32.

    Args:
        clean: float32 tensor `(n, 1, 28, 28)` in [0, 1].
        batch_size: images per step.
        channels_last: whether images and kernels are stored pixel by pixel, not channel by channel.
        compiled: whether `torch.compile` compiles the network.
    """

    def __init__(self, clean, batch_size, channels_last=False, compiled=False):
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self.clean, self.batch_size = clean.contiguous(memory_format=layout), batch_size
        self.network = Autoencoder().to(memory_format=layout)
        self.run = torch.compile(self.network) if compiled else self.network
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=0.001, fused=True)

    def epoch(self):
        """Train on all images once, in a new order and with new noise; return the mean loss of the batches."""
        losses = []
        for rows in torch.randperm(len(self.clean)).split(self.batch_size):
            clean = self.clean[rows]
            noisy = (clean + 0.5 * torch.randn_like(clean)).clamp_(0, 1)
            self.optimizer.zero_grad()
            loss = nn.functional.mse_loss(self.run(noisy), clean)
            loss.backward()
            self.optimizer.step()
            losses.append(loss.detach())
        return torch.stack(losses).mean().item()

    def error(self, noisy, clean):
        """Return the mean squared error over all images."""
        with torch.inference_mode():
            parts = zip(noisy.split(256), clean.split(256))
            return sum((self.run(a) - b).square().sum().item() for a, b in parts) / clean.numel()


def to_tensor(images):
    """Return uint8 `(n, height, width, 1)` as float32 `(n, 1, height, width)` in [0, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


def load(weights):
    """Return the network with the weights of a .safetensors file."""
    network = Autoencoder()
    network.load_state_dict(load_file(weights))
    return network


def export_onnx(weights, path):
    """Write PyTorch's own ONNX export of the network, for 28×28 images and any batch size."""
    torch.onnx.export(
        load(weights).eval(),
        (torch.rand(2, 1, 28, 28),),
        path,
        input_names=["noisy"],
        output_names=["denoised"],
        dynamic_shapes=[{0: torch.export.Dim("batch")}],
        verbose=False,
    )


if __name__ == "__main__":
    export_onnx(*sys.argv[1:])
