// The visible elements of a dark page whose text is hard to read or whose background is bright, as a list of strings.
() => {
  const channels = (color) => (color.match(/[\d.]+/g) || []).map(Number);
  const luminance = ([red, green, blue]) => {
    const [r, g, b] = [red, green, blue].map((value) => {
      const part = value / 255;
      return part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const over = ([red, green, blue, alpha = 1], below) =>
    [red, green, blue].map((value, index) => value * alpha + below[index] * (1 - alpha));
  const background = (element) => {
    if (!element) return [255, 255, 255];
    const below = background(element.parentElement);
    return over(channels(getComputedStyle(element).backgroundColor), below);
  };
  const found = new Set();
  for (const element of document.body.querySelectorAll("*")) {
    const box = element.getBoundingClientRect();
    const style = getComputedStyle(element);
    if (box.width * box.height === 0 || style.visibility === "hidden" || element.closest("svg")) continue;
    const behind = background(element);
    const name = `${element.tagName.toLowerCase()}.${element.className}`;
    if (box.width > 100 && box.height > 20 && luminance(behind) > 0.6) found.add(`bright: ${name}`);
    const text = [...element.childNodes].filter((node) => node.nodeType === 3 && node.data.trim());
    if (text.length === 0) continue;
    const light = luminance(over(channels(style.color), behind));
    const dark = luminance(behind);
    const contrast = (Math.max(light, dark) + 0.05) / (Math.min(light, dark) + 0.05);
    if (contrast < 3) found.add(`contrast ${contrast.toFixed(1)}: ${name} ${text[0].data.trim().slice(0, 40)}`);
  }
  return [...found];
}
