# qieemo serve on the processor:
#   docker build -t qieemo .
#   docker run -p 127.0.0.1:8000:8000 qieemo
FROM python:3.12-slim

# Torch first: it changes less often. Its own index has it without CUDA.
RUN pip install --no-cache-dir 'torch<2.15' torchaudio \
    --index-url https://download.pytorch.org/whl/cpu
WORKDIR /src
COPY setup.py pyproject.toml README.md LICENSE ./
COPY pretrained pretrained
COPY qieemo_sb qieemo_sb
RUN pip install --no-cache-dir '.[serve]'

RUN useradd --create-home qieemo
USER qieemo
WORKDIR /home/qieemo
EXPOSE 8000
HEALTHCHECK --start-period=60s CMD ["python", "-c", \
    "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/health')"]
ENTRYPOINT ["qieemo", "serve", "--host", "0.0.0.0"]
